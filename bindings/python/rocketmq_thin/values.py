"""The values that are passed to the client and returned by it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Iterable, Mapping, NamedTuple, Optional, Union

Seconds = Union[float, timedelta]
"""A length of time: a number of seconds, or a `timedelta`."""

Names = Union[str, Iterable[str]]
"""One name, or several."""


@dataclass
class Message:
    """A message to send.

    Attributes:
        topic: The topic it is sent to.
        body: Its content, as `bytes` or `bytearray`. Servers refuse an empty body and, by default, one above
            4 MiB.
        tag: One word that consumers can filter by. Default: none.
        keys: One word or several that the message can be found by. Default: none.
        properties: Further names and values for the application. Default: none.
    """

    topic: str
    body: bytes
    tag: Optional[str] = None
    keys: Names = ()
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Credentials:
    """An access key from the server's administrator.

    Attributes:
        access_key: The name of the key.
        secret_key: The secret that signs each request. It is never sent.
        session_token: The token of temporary credentials. Default: none.
    """

    access_key: str
    secret_key: str = field(repr=False)
    session_token: Optional[str] = field(default=None, repr=False)


@dataclass(frozen=True)
class Tls:
    """Encrypted connections. The server's certificate is always verified.

    Attributes:
        ca: The certificate authorities to trust, in PEM form. Default: those that the system trusts.
    """

    ca: Optional[bytes] = None


@dataclass(frozen=True)
class Tags:
    """A filter: the messages of a topic that have one of these tags. `Tags("new", "paid")`.

    Attributes:
        tags: The tags.
    """

    tags: tuple[str, ...]

    def __init__(self, *tags: str) -> None:
        object.__setattr__(self, "tags", tags)


@dataclass(frozen=True)
class Sql:
    """A filter: the messages of a topic whose properties satisfy an SQL-92 expression. `Sql("amount > 100")`.

    Attributes:
        expression: The condition.
    """

    expression: str


Subscriptions = Union[Mapping[str, Union[Tags, Sql, None]], Names]
"""One topic or several, or a mapping of topics to filters. `None` stands for all messages of the topic."""


class Receipt(NamedTuple):
    """The server's confirmation that a message is stored."""

    message_id: str
    """The message's id. Its deliveries have the same."""
    topic: str
    """The topic it was stored in."""
    queue_offset: int
    """Its position in its queue, or -1 if the server did not return it."""
    transaction_id: str
    """The server's transaction id. Servers return one for plain messages, too."""


class CloseReport(NamedTuple):
    """What a close did."""

    flushed: int
    """The number of sends and acks that were running and got their response."""
    abandoned: int
    """The number of sends and acks that had no response at the deadline. They failed with `Closed`."""
    elapsed: timedelta
    """How long the close took."""
