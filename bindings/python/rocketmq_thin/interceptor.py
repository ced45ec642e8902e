"""Code of the application around each send, receive and settlement."""

from __future__ import annotations

from typing import Literal, Optional, Union

from ._native import Delivery
from .values import Message, Receipt

Settlement = Literal["ack", "retry", "dead_letter", "change_invisible"]
"""How a delivery is settled, or kept hidden."""


class Interceptor:
    """Its functions are called before and after each send, receive and settlement of a client:
    `Client(..., interceptors=[Mine()])`.

    Override what you need. In both APIs, the functions run in the thread that calls the operation, so they must be quick
    and must not wait. Exceptions that they raise are logged and have no other effect. Of several interceptors, the first
    is called first before an operation, and last after it.
    """

    def before_send(self, message: Message) -> None:
        """A message is about to be sent. Change it to change what is sent; the caller's own message stays as it is."""

    def after_send(self, message: Message, result: Union[Receipt, BaseException]) -> None:
        """A send has ended, with its receipt or with what it raised."""

    def before_receive(self, group: str) -> None:
        """A consumer of this group is about to wait for messages."""

    def after_receive(self, group: str, result: Union[list[Delivery], BaseException]) -> None:
        """A receive has ended, with messages, with an empty list if nothing arrived in time, or with what it raised."""

    def before_settle(self, group: str, delivery: Delivery, settlement: Settlement) -> None:
        """A delivery is about to be settled."""

    def after_settle(
        self, group: str, delivery: Delivery, settlement: Settlement, error: Optional[BaseException]
    ) -> None:
        """It was settled, or that failed. Not called for messages of push consumers, which settle in the background."""
