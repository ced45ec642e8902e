"""A thin client of RocketMQ 5: all message types, transactions, simple and push consumers.

    from rocketmq_thin import Client, Message

    with Client("127.0.0.1:8081") as client, client.producer("orders") as producer:
        receipt = producer.send(Message("orders", b"hello"))

`rocketmq_thin.aio` is the same API for asyncio. Errors are classes of `rocketmq_thin.errors`.
"""

import atexit as _atexit
from typing import TYPE_CHECKING as _TYPE_CHECKING, Any as _Any

from . import errors
from ._logs import forward_logs
from ._native import Delivery, shutdown as _shutdown
from .blocking import Client, Messages, Producer, PushConsumer, SimpleConsumer, Transaction
from .errors import Error
from .interceptor import Interceptor, Settlement
from .values import (
    CloseReport,
    Credentials,
    DeadLetter,
    Decision,
    Duration,
    EndpointHealth,
    Health,
    Histogram,
    Lite,
    Message,
    Metric,
    Names,
    OffsetOption,
    OrphanCheck,
    Receipt,
    Retry,
    Sql,
    Subscriptions,
    Tags,
    Tls,
)

__all__ = [
    "Client",
    "CloseReport",
    "Credentials",
    "DeadLetter",
    "Decision",
    "Delivery",
    "Duration",
    "EndpointHealth",
    "Error",
    "Health",
    "Histogram",
    "Interceptor",
    "Lite",
    "Message",
    "Messages",
    "Metric",
    "Names",
    "OffsetOption",
    "OrphanCheck",
    "Producer",
    "PushConsumer",
    "Receipt",
    "Retry",
    "Settlement",
    "SimpleConsumer",
    "Sql",
    "Subscriptions",
    "Tags",
    "Tls",
    "Transaction",
    "aio",
    "errors",
    "forward_logs",
]

if _TYPE_CHECKING:
    from . import aio


def __getattr__(name: str) -> _Any:
    """Imports `aio` when it is first used, because importing asyncio takes long."""
    if name == "aio":
        from importlib import import_module

        return import_module(".aio", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# The client's thread must stop before the interpreter is finalized.
_atexit.register(_shutdown, 1.0)
