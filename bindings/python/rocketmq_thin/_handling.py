"""What an application's function said about a message, in the terms of the client. Both APIs share it."""

from __future__ import annotations

from typing import Any, Optional

from . import _native
from ._observers import Observers, log
from .values import Credentials, DeadLetter, Decision, OrphanCheck, Retry

# How many tasks are fetched at once.
MAX_TASKS = 64


def complete(observers: Observers, group: str, task: _native.Task, result: Any) -> None:
    """Reports what a handler returned or raised."""
    try:
        _complete(observers, group, task, result)
    finally:
        # Does nothing if it was reported. Otherwise the task might be kept by what was raised.
        task.retry(None)


def _complete(observers: Observers, group: str, task: _native.Task, result: Any) -> None:
    if isinstance(result, type) and issubclass(result, BaseException):
        # It can be raised, but the class alone was returned. Whatever was meant, the message is not done.
        name = result.__name__
        result = TypeError(f"a handler returned the class {name}: it must be raised, or returned as {name}()")
    if isinstance(result, Retry):
        observers.settling(group, task.delivery, "retry")
        try:
            task.retry(result.after)
        except (TypeError, ValueError) as error:
            log("Retry.after can't be used; the message is delivered again by the group's policy", error)
            task.retry(None)
    elif isinstance(result, DeadLetter):
        observers.settling(group, task.delivery, "dead_letter")
        task.dead_letter()
    elif isinstance(result, BaseException):
        log(f"a handler failed on message {task.delivery.message_id}, which is delivered again", result)
        observers.settling(group, task.delivery, "retry")
        task.retry(None)
    else:
        observers.settling(group, task.delivery, "ack")
        task.ack()


def question(check: _native.OrphanCheck) -> Optional[OrphanCheck]:
    """The check as the application sees it; `None` in a forked child."""
    asked = check.question()
    return asked and OrphanCheck(*asked)


def decision(result: Any) -> Decision:
    """What a checker returned or raised; a failure means that it is not known."""
    if isinstance(result, Decision):
        return result
    if not isinstance(result, BaseException):
        result = TypeError(f"a checker must return a rocketmq_thin.Decision, got {type(result).__name__}")
    log("a checker of orphaned transactions failed; the server asks again", result)
    return Decision.UNKNOWN


def answer_credentials(requests: _native.CredentialRequests, result: Any) -> None:
    """Passes on what a provider of credentials returned or raised."""
    if isinstance(result, Credentials):
        try:
            return requests.provide(result)
        except (TypeError, ValueError) as error:
            result = error
    if not isinstance(result, BaseException):
        result = TypeError(f"it must return rocketmq_thin.Credentials, got {type(result).__name__}")
    log("a provider of credentials failed", result)
    requests.refuse(f"{type(result).__name__}: {result}")
