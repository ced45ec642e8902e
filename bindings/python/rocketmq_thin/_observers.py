"""Calls the application's logging, interceptors and OpenTelemetry. Their failures have no effect on a call."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from importlib import import_module
from typing import Any, Optional, Protocol, TypeVar

from ._native import Delivery, Operation, Task
from .interceptor import Interceptor, Settlement
from .values import Message

_T = TypeVar("_T")


class _Logger(Protocol):
    """A `logging.Logger` or `logging.LoggerAdapter`. This module does not import `logging`, because that takes long."""

    def log(self, level: int, msg: object, *args: object, exc_info: Optional[BaseException] = None) -> None: ...


def log(message: str, error: BaseException) -> None:
    """Logs a failure of one of the application's functions."""
    import logging

    log_quietly(_package_logger(), logging.ERROR, message, error)


def warn(message: str) -> None:
    """Logs a mistake of the application that raises no exception."""
    import logging

    log_quietly(_package_logger(), logging.WARNING, message)


def _package_logger() -> _Logger:
    """Returns the logger of this package, which prints nothing unless logging is set up."""
    import logging

    logger = logging.getLogger("rocketmq_thin")
    if not logger.handlers:
        # Without this handler, Python prints to stderr if the application has not set up logging.
        logger.addHandler(logging.NullHandler())
    return logger


def log_quietly(logger: _Logger, level: int, message: str, error: Optional[BaseException] = None) -> None:
    """Logs a message. Ignores exceptions of the application's logging, which could not be logged."""
    try:
        logger.log(level, "%s", message, exc_info=error)
    except Exception:
        pass


class _SetResult(Protocol):
    """Sets the result of an observed operation, and returns it."""

    def __call__(self, value: _T, /) -> _T: ...


class ObservedOperation:
    """A `with` block around an operation. At its end, interceptors are called with the result."""

    _result: Any = None

    def __init__(self, observers: Observers, function: str, *arguments: Any) -> None:
        self._observers, self._function, self._arguments = observers, function, arguments

    def _set_result(self, value: _T, /) -> _T:
        self._result = value
        return value

    def __enter__(self) -> _SetResult:
        return self._set_result

    def __exit__(self, _: object, error: Optional[BaseException], __: object) -> None:
        self._end(self._result if error is None else error)

    def _end(self, result: Any) -> None:
        self._observers.after(self._function, *self._arguments, result)


class _ObservedOperations(ObservedOperation):
    """As `ObservedOperation`, for several operations whose results are a list."""

    def __init__(self, operations: list[ObservedOperation]) -> None:
        self._operations = operations

    def __exit__(self, _: object, error: Optional[BaseException], __: object) -> None:
        results = self._result if error is None else [error] * len(self._operations)
        for operation, result in zip(self._operations, results):
            operation._end(result)


class _UnobservedOperation(ObservedOperation):
    """The block of an operation if there are no interceptors."""

    def __init__(self) -> None:
        pass

    def _set_result(self, value: _T, /) -> _T:
        # This object is shared by all operations, and must not keep the value.
        return value

    def __exit__(self, *_: object) -> None:
        pass


_UNOBSERVED = _UnobservedOperation()


class Observers:
    """The interceptors of a client."""

    def __init__(self, interceptors: Iterable[Interceptor]) -> None:
        if not isinstance(interceptors, Iterable):
            given = type(interceptors).__name__
            raise TypeError(f"interceptors must be an iterable of rocketmq_thin.Interceptor, got {given}")
        self._interceptors = list(interceptors)
        for index, interceptor in enumerate(self._interceptors):
            if not isinstance(interceptor, Interceptor):
                given = type(interceptor).__name__
                raise TypeError(f"interceptors[{index}] must be a rocketmq_thin.Interceptor, got {given}")

    def _before(self, function: str, *arguments: Any) -> None:
        for interceptor in self._interceptors:
            _call(interceptor, function, arguments)

    def after(self, function: str, *arguments: Any) -> None:
        for interceptor in reversed(self._interceptors):
            _call(interceptor, function, arguments)

    def sending(self, message: Message) -> Message:
        """Returns the message to send: with the caller's trace context, and with the changes of interceptors."""
        message = _with_trace(message)
        if self._interceptors and isinstance(message, Message) and isinstance(message.properties, Mapping):
            message = replace(message, properties=dict(message.properties))
            self._before("before_send", message)
        return message

    def sending_all(self, messages: Iterable[Message]) -> Iterable[Message]:
        if not self._interceptors and "opentelemetry" not in sys.modules:
            return messages
        return [self.sending(message) for message in messages]

    def sent(self, message: Message) -> ObservedOperation:
        return ObservedOperation(self, "after_send", message) if self._interceptors else _UNOBSERVED

    def all_sent(self, messages: Iterable[Message]) -> ObservedOperation:
        return _ObservedOperations([self.sent(message) for message in messages]) if self._interceptors else _UNOBSERVED

    def receiving(self, group: str) -> ObservedOperation:
        if not self._interceptors:
            return _UNOBSERVED
        self._before("before_receive", group)
        return ObservedOperation(self, "after_receive", group)

    def settling(self, group: str, delivery: Delivery, settlement: Settlement) -> ObservedOperation:
        if not self._interceptors:
            return _UNOBSERVED
        self._before("before_settle", group, delivery, settlement)
        return ObservedOperation(self, "after_settle", group, delivery, settlement)

    def handled(
        self, group: str, task: Task, settlement: Settlement
    ) -> Optional[tuple[ObservedOperation, Operation[bool]]]:
        """As `settling`, for a task of a push consumer that is about to be completed. Also returns the operation, which
        waits until the message is settled. Returns `None` if there are no interceptors."""
        if not self._interceptors:
            return None
        return self.settling(group, task.delivery, settlement), task.settled()

    def settling_all(self, group: str, deliveries: Iterable[Delivery], settlement: Settlement) -> Iterable[Delivery]:
        if self._interceptors:
            deliveries = list(deliveries)
            for delivery in deliveries:
                self._before("before_settle", group, delivery, settlement)
        return deliveries

    def all_settled(self, group: str, deliveries: Iterable[Delivery], settlement: Settlement) -> ObservedOperation:
        if not self._interceptors:
            return _UNOBSERVED
        arguments = [(group, delivery, settlement) for delivery in deliveries]
        return _ObservedOperations([ObservedOperation(self, "after_settle", *each) for each in arguments])


def _call(interceptor: Interceptor, function: str, arguments: Iterable[Any]) -> None:
    try:
        getattr(interceptor, function)(*arguments)
    except Exception as error:
        log(f"{function} of an interceptor failed", error)


def _with_trace(message: Message) -> Message:
    """Adds the caller's trace context to the properties, as `traceparent` and `tracestate`, if the program uses
    OpenTelemetry."""
    if "opentelemetry" not in sys.modules or not isinstance(message, Message):
        return message
    carrier: dict[str, str] = {}
    try:
        import_module("opentelemetry.propagate").inject(carrier)
    except Exception as error:
        log("failed to add the trace context to a message", error)
    added = {name: value for name, value in carrier.items() if name not in message.properties}
    return replace(message, properties={**message.properties, **added}) if added else message


_NO_TRACE = nullcontext()


def within_trace(delivery: Delivery) -> AbstractContextManager[None]:
    """Returns a block that has the trace context of the sender, if the program uses OpenTelemetry."""
    if "opentelemetry" not in sys.modules or delivery.trace_parent is None:
        return _NO_TRACE
    return _within_trace(delivery)


@contextmanager
def _within_trace(delivery: Delivery) -> Iterator[None]:
    try:
        context, propagate = import_module("opentelemetry.context"), import_module("opentelemetry.propagate")
        # A server may deliver the trace context in a field of the protocol, and not in the properties.
        carrier = {**delivery.properties, "traceparent": delivery.trace_parent}
        token = context.attach(propagate.extract(carrier))
    except Exception as error:
        log("failed to read the trace context of a message", error)
        yield
        return
    try:
        yield
    finally:
        context.detach(token)
