"""The application's functions that a blocking client calls in threads: handlers and checkers."""

from __future__ import annotations

import threading
from typing import Any, Callable

from . import _native
from ._handling import MAX_TASKS, answer_credentials, complete, decision, log, question, within_trace
from ._native import Delivery, run
from .errors import Error
from .values import Credentials, Decision, OrphanCheck

Handler = Callable[[Delivery], Any]
"""What handles a message. It is called in a thread."""

Checker = Callable[[OrphanCheck], Decision]
"""What decides about orphaned transactions. It is called in a thread."""

Provider = Callable[[], Credentials]
"""What provides credentials. After the first time it is called in a thread."""

# The client itself limits how many messages are handled at the same time.
_MAX_THREADS = 1000


def result(function: Callable[..., Any], *arguments: Any) -> Any:
    """What an application's function returns or raises."""
    try:
        return function(*arguments)
    except Exception as error:
        return error


def start(function: Callable[..., None], *args: Any) -> None:
    """Runs a function in a thread that does not keep the process running."""
    threading.Thread(target=function, args=args, name="rocketmq-thin", daemon=True).start()


def handle_tasks(consumer: _native.PushConsumer, handler: Handler) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_MAX_THREADS, "rocketmq-thin-handler") as threads:
        while (tasks := run(consumer.next_tasks(MAX_TASKS))) is not None:
            for task in tasks:
                try:
                    threads.submit(_handle_task, task, handler)
                except RuntimeError:
                    # The interpreter is ending.
                    return


def _handle_task(task: _native.Task, handler: Handler) -> None:
    with within_trace(task.delivery):
        complete(task, result(handler, task.delivery))


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


def renew_credentials(client: _native.Client, provider: Provider) -> None:
    while True:
        run(client.credentials_needed())
        if client.health().status == "closed":
            return
        answer_credentials(client, result(provider))
