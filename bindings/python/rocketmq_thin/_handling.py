"""What an application's function said about a message, in the terms of the client. Both APIs share it."""

from __future__ import annotations

from typing import Any, Optional

from . import _native
from .errors import Error
from .values import Credentials, DeadLetter, Decision, OrphanCheck, Retry

# How many tasks are fetched at once.
MAX_TASKS = 64


def log(message: str, error: BaseException) -> None:
    """Logs a failure of the application's own function. Nothing is printed unless the application sets up logging."""
    import logging

    logger = logging.getLogger("rocketmq_thin")
    if not logger.handlers:
        # Without it, Python prints errors to the standard error of programs that did not set up logging.
        logger.addHandler(logging.NullHandler())
    logger.error(message, exc_info=error)


def complete(task: _native.Task, result: Any) -> None:
    """Tells what a handler returned or raised; `None` means that the message is done."""
    if isinstance(result, Retry):
        try:
            task.retry(result.after)
        except (TypeError, ValueError) as error:
            log("Retry.after can't be used; the message is delivered again by the group's policy", error)
            task.retry(None)
    elif isinstance(result, DeadLetter):
        task.dead_letter()
    elif isinstance(result, BaseException):
        log(f"a handler failed on message {task.delivery.message_id}, which is delivered again", result)
        task.retry(None)
    else:
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


def answer_credentials(client: _native.Client, result: Any) -> None:
    """Passes on what a provider of credentials returned or raised."""
    if isinstance(result, Credentials):
        try:
            client.update_credentials(result)
            return
        except (Error, TypeError, ValueError) as error:
            result = error
    if not isinstance(result, BaseException):
        result = TypeError(f"it must return rocketmq_thin.Credentials, got {type(result).__name__}")
    log("a provider of credentials failed", result)
    client.credentials_failed(f"{type(result).__name__}: {result}")


def first_credentials(result: Any) -> Credentials:
    """The credentials that a provider returned; raises what it raised."""
    if isinstance(result, Credentials):
        return result
    if isinstance(result, BaseException):
        raise result
    raise TypeError(f"a provider must return rocketmq_thin.Credentials, got {type(result).__name__}")
