"""Converts the results of an application's handlers, checkers and credential providers. Shared by both APIs."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, MutableSequence
from typing import Any, Optional

from . import _native
from ._observers import ObservedOperation, Observers, log, warn
from .values import Credentials, DeadLetter, Decision, OrphanCheck, Retry

# The maximum number of tasks that are fetched at once.
MAX_TASKS = 64

# The delays in seconds between attempts while there is not enough memory, or no thread can be started.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class Pauses:
    """The delays between attempts that fail. Each is twice as long as the last one, up to a limit."""

    def __init__(self) -> None:
        self._next = _SHORTEST_PAUSE

    def next(self) -> float:
        """Returns the next delay in seconds."""
        pause, self._next = self._next, min(2 * self._next, _LONGEST_PAUSE)
        return pause

    def reset(self) -> None:
        """Begins again with a short delay, because an attempt has succeeded."""
        self._next = _SHORTEST_PAUSE


def end_when_collected(consumer: object, native: _native.PushConsumer, group: str) -> None:
    """Ends a push consumer that is not closed when it is garbage-collected, with a warning, or the interpreter exits."""
    weakref.finalize(consumer, native.abandon)
    # The last one is called first. It is not called at the exit of the interpreter.
    weakref.finalize(consumer, _warn_if_open, native, group).atexit = False


def _warn_if_open(native: _native.PushConsumer, group: str) -> None:
    if not native.is_closed():
        warn(f"the push consumer of group {group} is closed, because the program has dropped it and its client")


def put_back(tasks: MutableSequence[_native.Task]) -> None:
    """Removes the tasks and puts them back, because their handlers have not begun. Other threads may remove some, too."""
    while tasks:
        try:
            # The last one first, because each of them becomes the next one.
            task = tasks.pop()
        except IndexError:
            return
        task.put_back()


def complete(
    observers: Observers, group: str, task: _native.Task, result: Any
) -> Optional[tuple[ObservedOperation, _native.Operation[bool]]]:
    """Completes a task with the value that its handler returned, or the exception that it raised.

    Returns the operation that waits until the message is settled, if interceptors have to be called with its result.
    """
    try:
        return _complete(observers, group, task, result)
    finally:
        # Does nothing if the task is already completed. Otherwise the exception might keep a reference to the task.
        task.retry(None)


def _complete(
    observers: Observers, group: str, task: _native.Task, result: Any
) -> Optional[tuple[ObservedOperation, _native.Operation[bool]]]:
    if result is not None and not isinstance(result, BaseException):
        # Only a known result may acknowledge the message.
        result = _unexpected("a handler", "None, a Retry or a DeadLetter", result)
    if isinstance(result, Retry):
        settling = observers.handled(group, task, "retry")
        try:
            task.retry(result.after)
        except (TypeError, ValueError) as error:
            log("Retry.after is invalid; the message is delivered again according to the group's retry policy", error)
            task.retry(None)
    elif isinstance(result, DeadLetter):
        settling = observers.handled(group, task, "dead_letter")
        task.dead_letter()
    elif isinstance(result, BaseException):
        log(f"a handler failed on message {task.delivery.message_id}, which is delivered again", result)
        settling = observers.handled(group, task, "retry")
        task.retry(None)
    else:
        settling = observers.handled(group, task, "ack")
        task.ack()
    return settling


def _unexpected(function: str, expected: str, result: Any) -> TypeError:
    """Creates the error for a result of the wrong type."""
    if isinstance(result, Awaitable):
        from inspect import CORO_CREATED, getcoroutinestate, iscoroutine

        if iscoroutine(result) and getcoroutinestate(result) == CORO_CREATED:
            # Otherwise Python warns that it was never awaited.
            result.close()
        advice = "await it, in an async function of a client of rocketmq_thin.aio"
        return TypeError(f"{function} returned a {type(result).__name__} that was not awaited: {advice}")
    if isinstance(result, type) and issubclass(result, BaseException):
        name = result.__name__
        return TypeError(f"{function} returned the class {name}: it must be raised, or returned as {name}()")
    return TypeError(f"{function} must return {expected}, got {type(result).__name__}")


def to_orphan_check(check: _native.OrphanCheck) -> Optional[OrphanCheck]:
    """Converts an orphan check for the application. Returns `None` in a forked child."""
    details = check.details()
    return details and OrphanCheck(*details)


def to_decision(result: Any) -> Decision:
    """Returns the decision of a checker, or `UNKNOWN` if the checker failed."""
    if isinstance(result, Decision):
        return result
    if not isinstance(result, BaseException):
        result = _unexpected("a checker", "a rocketmq_thin.Decision", result)
    log("a checker of orphaned transactions failed; the server asks again", result)
    return Decision.UNKNOWN


def answer_credentials(requests: _native.CredentialRequests, result: Any) -> None:
    """Answers a credential request with the credentials that a provider returned, or the exception that it raised."""
    if isinstance(result, Credentials):
        try:
            return requests.provide(result)
        except (TypeError, ValueError) as error:
            result = error
    if not isinstance(result, BaseException):
        result = _unexpected("a provider", "rocketmq_thin.Credentials", result)
    log("a credentials provider failed", result)
    requests.refuse(_to_text(result))


def _to_text(error: BaseException) -> str:
    """Returns a text of the application's exception, also if the exception has none, or none that is valid Unicode."""
    name = type(error).__name__
    try:
        text = f"{name}: {error}"
    except Exception:
        text = name
    return text.encode("utf-8", "replace").decode()
