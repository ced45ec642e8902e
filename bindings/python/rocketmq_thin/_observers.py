"""The application's logging, interceptors and OpenTelemetry. Their failures have no effect on a call."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from importlib import import_module
from typing import Any, Optional, Protocol, TypeVar, Union

from ._native import Delivery
from .errors import Error
from .interceptor import Interceptor, Settlement
from .values import Message, Receipt

_T = TypeVar("_T")


class _Logger(Protocol):
    """A `logging.Logger` or `logging.LoggerAdapter`. Importing `logging` takes long."""

    def log(self, level: int, msg: object, *args: object, exc_info: Optional[BaseException] = None) -> None: ...


def log(message: str, error: BaseException) -> None:
    """Logs a failure of the application's own function. Nothing is printed unless the application sets up logging."""
    import logging

    logger = logging.getLogger("rocketmq_thin")
    if not logger.handlers:
        # Without it, Python prints errors to the standard error of programs that did not set up logging.
        logger.addHandler(logging.NullHandler())
    report(logger, logging.ERROR, message, error)


def report(logger: _Logger, level: int, message: str, error: Optional[BaseException] = None) -> None:
    """Logs a message. What the application's logging raises has no effect: there is nowhere left to report it."""
    try:
        logger.log(level, "%s", message, exc_info=error)
    except Exception:
        pass


class _Done(Protocol):
    """Notes the value of an operation, and returns it."""

    def __call__(self, value: _T, /) -> _T: ...


class Told:
    """An operation that interceptors are told of when its block ends."""

    _result: Any = None

    def __init__(self, observers: Observers, function: str, *told: Any) -> None:
        self._observers, self._function, self._told = observers, function, told

    def _done(self, value: _T, /) -> _T:
        self._result = value
        return value

    def __enter__(self) -> _Done:
        return self._done

    def __exit__(self, _: object, error: Optional[BaseException], __: object) -> None:
        self._observers.after(self._function, *self._told, self._result if error is None else error)


class _Untold(Told):
    """An operation that nobody is told of."""

    def __init__(self) -> None:
        pass

    def _done(self, value: _T, /) -> _T:
        # It is shared, and must not keep the value.
        return value

    def __exit__(self, *_: object) -> None:
        pass


_UNTOLD = _Untold()


class Observers:
    """The interceptors of a client."""

    def __init__(self, interceptors: Iterable[Interceptor]) -> None:
        if not isinstance(interceptors, Iterable):
            given = type(interceptors).__name__
            raise TypeError(f"interceptors must be an iterable of rocketmq_thin.Interceptor, got {given}")
        self._interceptors = list(interceptors)
        for number, each in enumerate(self._interceptors):
            if not isinstance(each, Interceptor):
                given = type(each).__name__
                raise TypeError(f"interceptors[{number}] must be a rocketmq_thin.Interceptor, got {given}")

    def _before(self, function: str, *told: Any) -> None:
        for interceptor in self._interceptors:
            _tell(interceptor, function, told)

    def after(self, function: str, *told: Any) -> None:
        for interceptor in reversed(self._interceptors):
            _tell(interceptor, function, told)

    def sending(self, message: Message) -> Message:
        """The message as it is sent: with the trace of the caller, and what interceptors change."""
        message = _traced(message)
        if self._interceptors and isinstance(message, Message) and isinstance(message.properties, Mapping):
            message = replace(message, properties=dict(message.properties))
            self._before("before_send", message)
        return message

    def sending_all(self, messages: Iterable[Message]) -> Iterable[Message]:
        if not self._interceptors and "opentelemetry" not in sys.modules:
            return messages
        return [self.sending(message) for message in messages]

    def sent(self, message: Message) -> Told:
        return Told(self, "after_send", message) if self._interceptors else _UNTOLD

    def all_sent(self, messages: Iterable[Message], results: list[Union[Receipt, Error]]) -> None:
        if self._interceptors:
            for message, result in zip(messages, results):
                self.after("after_send", message, result)

    def receiving(self, group: str) -> Told:
        if not self._interceptors:
            return _UNTOLD
        self._before("before_receive", group)
        return Told(self, "after_receive", group)

    def settling(self, group: str, delivery: Delivery, settlement: Settlement) -> Told:
        if not self._interceptors:
            return _UNTOLD
        self._before("before_settle", group, delivery, settlement)
        return Told(self, "after_settle", group, delivery, settlement)

    def settling_all(self, group: str, deliveries: Iterable[Delivery], settlement: Settlement) -> Iterable[Delivery]:
        if self._interceptors:
            deliveries = list(deliveries)
            for delivery in deliveries:
                self._before("before_settle", group, delivery, settlement)
        return deliveries

    def all_settled(
        self, group: str, deliveries: Iterable[Delivery], settlement: Settlement, results: list[Optional[Error]]
    ) -> None:
        if self._interceptors:
            for delivery, error in zip(deliveries, results):
                self.after("after_settle", group, delivery, settlement, error)


def _tell(interceptor: Interceptor, function: str, told: Iterable[Any]) -> None:
    try:
        getattr(interceptor, function)(*told)
    except Exception as error:
        log(f"{function} of an interceptor failed", error)


def _traced(message: Message) -> Message:
    """The message with the trace context of the caller, if the program uses OpenTelemetry: `traceparent` and
    `tracestate` among its properties."""
    if "opentelemetry" not in sys.modules or not isinstance(message, Message):
        return message
    carrier: dict[str, str] = {}
    try:
        import_module("opentelemetry.propagate").inject(carrier)
    except Exception as error:
        log("the trace context could not be added to a message", error)
    added = {name: value for name, value in carrier.items() if name not in message.properties}
    return replace(message, properties={**message.properties, **added}) if added else message


_NO_TRACE = nullcontext()


def within_trace(delivery: Delivery) -> AbstractContextManager[None]:
    """The trace context of the sender while a message is handled, if the program uses OpenTelemetry."""
    if "opentelemetry" not in sys.modules or delivery.trace_parent is None:
        return _NO_TRACE
    return _within_trace(delivery)


@contextmanager
def _within_trace(delivery: Delivery) -> Iterator[None]:
    try:
        context, propagate = import_module("opentelemetry.context"), import_module("opentelemetry.propagate")
        token = context.attach(propagate.extract(delivery.properties))
    except Exception as error:
        log("the trace context of a message could not be read", error)
        yield
        return
    try:
        yield
    finally:
        context.detach(token)
