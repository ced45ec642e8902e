"""A thin client of RocketMQ 5: send, receive, ack, change the invisible time.

    from rocketmq_thin import Client, Message

    with Client("127.0.0.1:8081") as client, client.producer(topics=["orders"]) as producer:
        receipt = producer.send(Message("orders", b"hello"))

`rocketmq_thin.aio` has the same words for asyncio. Errors are classes of `rocketmq_thin.errors`.
"""

import atexit as _atexit
from typing import TYPE_CHECKING as _TYPE_CHECKING, Any as _Any

from . import errors
from ._native import Delivery, shutdown as _shutdown
from .blocking import Client, Producer, SimpleConsumer
from .errors import Error
from .values import CloseReport, Credentials, Message, Receipt, Seconds, Sql, Subscriptions, Tags, Tls

__all__ = [
    "Client",
    "CloseReport",
    "Credentials",
    "Delivery",
    "Error",
    "Message",
    "Producer",
    "Receipt",
    "Seconds",
    "SimpleConsumer",
    "Sql",
    "Subscriptions",
    "Tags",
    "Tls",
    "aio",
    "errors",
]

if _TYPE_CHECKING:
    from . import aio


def __getattr__(name: str) -> _Any:
    """Imports `aio` when it is first used: asyncio takes longer to import than all the rest."""
    if name == "aio":
        from importlib import import_module

        return import_module(".aio", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# No thread of ours runs any more when the interpreter goes.
_atexit.register(_shutdown, 1.0)
