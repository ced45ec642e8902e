"""Runs an application's handlers, checkers and credential providers in threads, for the blocking client."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from functools import partial
from typing import Any, Callable, Optional

from . import _native
from ._handling import MAX_TASKS, answer_credentials, complete, put_back, to_decision, to_orphan_check
from ._native import Delivery, run
from ._observers import Observers, log, within_trace
from .errors import Error
from .values import Credentials, Decision, OrphanCheck

Handler = Callable[[Delivery], Optional[Exception]]
"""Handles a message. Called in a thread."""

Checker = Callable[[OrphanCheck], Decision]
"""Decides about an orphaned transaction. Called in a thread."""

Provider = Callable[[], Credentials]
"""Provides credentials. Called in a thread."""

# What Python raises if it can't start a thread.
_NO_THREAD = (RuntimeError, MemoryError)

# An upper bound only: `concurrency` of the consumer decides how many threads are used.
_MAX_THREADS = 1000


def require_plain_function(function: Any, name: str) -> Any:
    """Returns the function. Raises `TypeError` if it is async or not callable."""
    from inspect import iscoroutinefunction

    if iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None)):
        raise TypeError(f"{name} must be a plain function; an async function needs a client of rocketmq_thin.aio")
    if not callable(function):
        raise TypeError(f"{name} must be a function, got {type(function).__name__}")
    return function


def call_and_catch(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls the function and returns its result, or the exception that it raised.

    This includes `SystemExit`, which does not end the process if it is raised in a thread.
    """
    try:
        return function(*arguments)
    except BaseException as error:
        return error


def start(function: Callable[..., None], *args: Any) -> None:
    """Runs a function in a thread that does not keep the process running."""
    threading.Thread(target=function, args=args, name="rocketmq-thin", daemon=True).start()


def _is_shutdown(error: BaseException) -> bool:
    """Whether a thread was not started because the interpreter shuts down. Python has no other way to ask."""
    return "shutdown" in str(error)


def handle_tasks(consumer: _native.PushConsumer, group: str, handler: Handler, observers: Observers) -> None:
    """Calls `handler` for each message, until the consumer is closed. Closes it if the interpreter shuts down first."""
    try:
        from concurrent.futures import ThreadPoolExecutor
    except RuntimeError:
        # Raised while the interpreter shuts down.
        return

    # The tasks whose handlers have not begun.
    waiting: deque[_native.Task] = deque()

    def complete_next(handle: Callable[[Delivery], Any]) -> None:
        try:
            task = waiting.popleft()
        except IndexError:
            # It was put back, or has failed.
            return
        with within_trace(task.delivery):
            handled = complete(observers, group, task, handle(task.delivery))
        if handled is not None:
            settling, settled = handled
            # The client logs a failure.
            with suppress(Error), settling:
                run(settled)

    handle_next = partial(complete_next, partial(call_and_catch, handler))

    with ThreadPoolExecutor(_MAX_THREADS, "rocketmq-thin-handler") as threads:
        try:
            while True:
                try:
                    with observers.receiving(group) as received:
                        tasks = run(consumer.next_tasks(MAX_TASKS))
                        waiting.extend(tasks or ())
                        received([task.delivery for task in tasks or ()])
                except MemoryError as error:
                    log("failed to take messages, which are delivered again", error)
                    put_back(waiting)
                    continue
                if tasks is None:
                    return
                for _ in tasks:
                    try:
                        threads.submit(handle_next)
                    except _NO_THREAD as error:
                        if _is_shutdown(error):
                            return
                        # The executor may have queued the call nevertheless. Then the call finds one message less.
                        complete_next(lambda _, error=error: error)
        finally:
            put_back(waiting)
            if not consumer.is_closed():
                # Otherwise it would receive messages that nobody handles.
                consumer.abandon()


def answer_checks(checks: _native.OrphanChecks, checker: Checker) -> None:
    """Answers orphan checks with the results of `checker`, until the producer is closed."""
    while (check := run(checks.next())) is not None:
        try:
            start(_answer_check, check, checker)
        except _NO_THREAD as error:
            if _is_shutdown(error):
                return
            log("failed to call the checker of an orphaned transaction; the server asks again", error)


def _answer_check(check: _native.OrphanCheck, checker: Checker) -> None:
    orphan_check = to_orphan_check(check)
    if orphan_check is not None:
        try:
            run(check.decide(to_decision(call_and_catch(checker, orphan_check))))
        except Error as error:
            log("failed to send the decision about an orphaned transaction; the server asks again", error)


def provide_credentials(requests: _native.CredentialRequests, provider: Provider) -> None:
    """Answers credential requests with the results of `provider`, until the client is closed."""
    while run(requests.next()):
        answer_credentials(requests, call_and_catch(provider))
