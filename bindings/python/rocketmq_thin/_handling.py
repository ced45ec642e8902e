"""What an application's function said about a message, in the terms of the client. Both APIs share it."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any, Iterable, Iterator, Optional

from . import _native
from .errors import Error
from .values import Credentials, DeadLetter, Decision, Message, OrphanCheck, Retry

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


def traced(message: Message) -> Message:
    """The message with the trace context of the caller, if the program uses OpenTelemetry: `traceparent` and
    `tracestate` among its properties."""
    if "opentelemetry" not in sys.modules or not isinstance(message, Message):
        return message
    propagate = import_module("opentelemetry.propagate")
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    added = {name: value for name, value in carrier.items() if name not in message.properties}
    return replace(message, properties={**message.properties, **added}) if added else message


def traced_all(messages: Iterable[Message]) -> Iterable[Message]:
    """The same for many messages."""
    return messages if "opentelemetry" not in sys.modules else [traced(message) for message in messages]


@contextmanager
def within_trace(delivery: _native.Delivery) -> Iterator[None]:
    """The trace context of the sender while a message is handled, if the program uses OpenTelemetry."""
    if "opentelemetry" not in sys.modules or delivery.trace_parent is None:
        yield
        return
    context, propagate = import_module("opentelemetry.context"), import_module("opentelemetry.propagate")
    token = context.attach(propagate.extract(delivery.properties))
    try:
        yield
    finally:
        context.detach(token)
