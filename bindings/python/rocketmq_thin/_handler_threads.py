"""Runs an application's handlers, checkers and credential providers in threads, for the blocking client."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Optional

from . import _native
from ._handling import MAX_TASKS, Pauses, answer_credentials, complete, put_back, to_decision, to_orphan_check
from ._native import Delivery, run
from ._observers import Observers, log, within_trace
from .errors import Error
from .values import Credentials, Decision, OrphanCheck

if TYPE_CHECKING:
    from concurrent.futures import Executor

Handler = Callable[[Delivery], Optional[Exception]]
"""Handles a message. Called in a thread."""

Checker = Callable[[OrphanCheck], Decision]
"""Decides about an orphaned transaction. Called in a thread."""

Provider = Callable[[], Credentials]
"""Provides credentials. Called in a thread."""

# What Python raises if it can't start a thread.
NO_THREAD = (RuntimeError, MemoryError)

# An upper bound only: `concurrency` of the consumer decides how many threads are used.
MAX_THREADS = 1000


def require_threads() -> None:
    """Raises `RuntimeError` if gevent or eventlet has replaced threads by greenlets, or the queues between threads.

    A greenlet that waits in native code would stop all others.
    """
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    for name, patched in (
        ("gevent", gevent is not None and any(map(gevent.is_module_patched, ("threading", "queue")))),
        ("eventlet", eventlet is not None and eventlet.is_monkey_patched("thread")),
    ):
        if patched:
            raise RuntimeError(
                "handlers, checkers, credentials providers and forward_logs need threads and queues, which "
                f"{name} has replaced: do not let it patch them, or use simple consumers and producers only"
            )


def require_plain_function(function: Any, name: str) -> Any:
    """Returns the function. Raises `TypeError` if it is async or not callable, `RuntimeError` without real threads."""
    from inspect import iscoroutinefunction

    if iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None)):
        raise TypeError(f"{name} must be a plain function; an async function needs a client of rocketmq_thin.aio")
    if not callable(function):
        raise TypeError(f"{name} must be a function, got {type(function).__name__}")
    require_threads()
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


def is_shutdown(error: BaseException) -> bool:
    """Whether a thread was not started because the interpreter shuts down. Python has no other way to ask."""
    return "shutdown" in str(error)


def submit(threads: Executor, call: Callable[[], None], begun: threading.Event) -> None:
    """Lets a thread of the executor call the function. `begun` is set if the executor has a thread.

    Raises one of `NO_THREAD` if it has none and can't start one. The call may be in the executor's queue nevertheless.
    """
    try:
        threads.submit(call)
    except RuntimeError as error:
        # The executor queues a call before it starts a thread for it. One of its other threads will call the function.
        if is_shutdown(error) or not begun.is_set():
            raise


def handle_tasks(consumer: _native.PushConsumer, group: str, handler: Handler, observers: Observers) -> None:
    """Calls `handler` for each message, until the consumer is closed. Closes it if the interpreter shuts down first."""
    try:
        from concurrent.futures import ThreadPoolExecutor
    except RuntimeError:
        # Raised while the interpreter shuts down.
        return

    # The tasks whose handlers have not begun.
    waiting: deque[_native.Task] = deque()

    def handle_next() -> None:
        try:
            task = waiting.popleft()
        except IndexError:
            # It was put back.
            return
        with within_trace(task.delivery):
            handled = complete(observers, group, task, call_and_catch(handler, task.delivery))
        if handled is not None:
            settling, settled = handled
            # The client logs a failure.
            with suppress(Error), settling:
                run(settled)

    # `begun` is set when the executor's first thread starts. Its threads end only when it is shut down.
    begun, pauses = threading.Event(), Pauses()

    with ThreadPoolExecutor(MAX_THREADS, "rocketmq-thin-handler", initializer=begun.set) as threads:
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
                    time.sleep(pauses.next())
                    continue
                if tasks is None:
                    return
                try:
                    for _ in tasks:
                        submit(threads, handle_next, begun)
                    pauses.reset()
                except NO_THREAD as error:
                    if is_shutdown(error):
                        return
                    log("failed to start a thread for handlers; their messages wait", error)
                    # A call that was queued nevertheless finds one message less.
                    put_back(waiting)
                    time.sleep(pauses.next())
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
        except NO_THREAD as error:
            if is_shutdown(error):
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
