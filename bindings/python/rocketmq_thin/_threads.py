"""The application's functions that a blocking client calls in threads: handlers and checkers."""

from __future__ import annotations

import threading
from typing import Any, Callable

from . import _native
from ._handling import MAX_TASKS, answer_credentials, complete, decision, question
from ._native import Delivery, run
from ._observers import Observers, log, within_trace
from .errors import Error
from .values import Credentials, Decision, OrphanCheck

Handler = Callable[[Delivery], Any]
"""What handles a message. It is called in a thread."""

Checker = Callable[[OrphanCheck], Decision]
"""What decides about orphaned transactions. It is called in a thread."""

Provider = Callable[[], Credentials]
"""What provides credentials. It is called in a thread."""

# The client itself limits how many messages are handled at the same time.
_MAX_THREADS = 1000


def plain(function: Any, name: str) -> Any:
    """A function that a thread can call."""
    from inspect import iscoroutinefunction

    if iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None)):
        raise TypeError(f"{name} must be a plain function; an async one needs a client of rocketmq_thin.aio")
    if not callable(function):
        raise TypeError(f"{name} must be a function, got {type(function).__name__}")
    return function


def result(function: Callable[..., Any], *arguments: Any) -> Any:
    """What an application's function returns or raises. `SystemExit` does not end a process from a thread, as always."""
    try:
        return function(*arguments)
    except BaseException as error:
        return error


def start(function: Callable[..., None], *args: Any) -> None:
    """Runs a function in a thread that does not keep the process running."""
    threading.Thread(target=function, args=args, name="rocketmq-thin", daemon=True).start()


def handle_tasks(consumer: _native.PushConsumer, group: str, handler: Handler, observers: Observers) -> None:
    try:
        from concurrent.futures import ThreadPoolExecutor
    except RuntimeError:
        # The interpreter is ending.
        return

    def handle(task: _native.Task) -> None:
        with within_trace(task.delivery):
            complete(observers, group, task, result(handler, task.delivery))

    with ThreadPoolExecutor(_MAX_THREADS, "rocketmq-thin-handler") as threads:
        while True:
            with observers.receiving(group) as received:
                tasks = run(consumer.next_tasks(MAX_TASKS))
                received([task.delivery for task in tasks or ()])
            if tasks is None:
                return
            for task in tasks:
                try:
                    threads.submit(handle, task)
                except RuntimeError:
                    # The interpreter is ending.
                    return


def answer_checks(checks: _native.OrphanChecks, checker: Checker) -> None:
    while (check := run(checks.next())) is not None:
        start(_answer_check, check, checker)


def _answer_check(check: _native.OrphanCheck, checker: Checker) -> None:
    asked = question(check)
    if asked is not None:
        try:
            run(check.decide(decision(result(checker, asked))))
        except Error as error:
            log("the decision about an orphaned transaction did not reach the server, which asks again", error)


def provide_credentials(requests: _native.CredentialRequests, provider: Provider) -> None:
    while run(requests.next()):
        answer_credentials(requests, result(provider))
