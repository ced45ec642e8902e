"""Interceptors: functions of the application that are called before and after each operation."""

from __future__ import annotations

from typing import Literal, Optional, Union

from ._native import Delivery
from .values import Message, Receipt

Settlement = Literal["ack", "retry", "dead_letter", "change_invisible"]
"""How a delivery is settled. `change_invisible` only changes how long it stays invisible."""


class Interceptor:
    """Its functions are called before and after each send, receive and settlement of a client:
    `Client(..., interceptors=[Mine()])`.

    Override the functions that you need. In both APIs, they run in the thread that calls the operation, so they must be
    quick and must not block. Their exceptions are logged and have no other effect. Interceptors are called in order
    before an operation, and in reverse order after it.
    """

    def before_send(self, message: Message) -> None:
        """Called before a send. Changes to `message` are sent; the caller's own message does not change."""

    def after_send(self, message: Message, result: Union[Receipt, BaseException]) -> None:
        """Called after a send, with its receipt or its exception."""

    def before_receive(self, group: str) -> None:
        """Called before a consumer of this group waits for messages."""

    def after_receive(self, group: str, result: Union[list[Delivery], BaseException]) -> None:
        """Called after a receive, with its messages (an empty list if nothing arrived in time) or its exception."""

    def before_settle(self, group: str, delivery: Delivery, settlement: Settlement) -> None:
        """Called before a delivery is settled."""

    def after_settle(
        self, group: str, delivery: Delivery, settlement: Settlement, error: Optional[BaseException]
    ) -> None:
        """Called after a delivery was settled, with the exception if that failed. A failed message of a FIFO group that
        the push consumer itself handles again counts as settled."""
