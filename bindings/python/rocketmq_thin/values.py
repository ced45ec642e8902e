"""The values that go in and come out. What is left out of the options has the core's default."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Mapping, NamedTuple, Optional, Sequence, Union

Seconds = Union[float, timedelta]
"""A length of time: a number of seconds, or a `timedelta`."""


@dataclass
class Message:
    """A message to send."""

    topic: str
    body: bytes
    """Its content; servers refuse an empty one and, by default, one above 4 MiB."""
    tag: Optional[str] = None
    """One word to filter by."""
    keys: Sequence[str] = ()
    """Words to find it by."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """Names and values of the application's own."""


@dataclass(frozen=True)
class Credentials:
    """An access key and its secret, as the server's administrator gave them out."""

    access_key: str
    secret_key: str = field(repr=False)
    """The key that signs each request; it never travels."""
    session_token: Optional[str] = field(default=None, repr=False)
    """The token of temporary credentials."""


@dataclass(frozen=True)
class Tls:
    """Encrypted connections. The server's certificate is always verified."""

    ca: Optional[bytes] = None
    """Certificate authorities to trust, in PEM form; without, those that the machine trusts."""


@dataclass(frozen=True)
class Tags:
    """The messages of a topic that have one of these tags: `Tags("new", "paid")`."""

    tags: tuple[str, ...]

    def __init__(self, *tags: str) -> None:
        object.__setattr__(self, "tags", tags)


@dataclass(frozen=True)
class Sql:
    """The messages of a topic whose properties satisfy an SQL-92 expression: `Sql("amount > 100")`."""

    expression: str


Subscriptions = Union[Mapping[str, Union[Tags, Sql, None]], Sequence[str]]
"""Topics with a filter for each (`None`: all of its messages), or topics alone."""


class Receipt(NamedTuple):
    """The server's word that a message is stored."""

    message_id: str
    """The message's id, which its deliveries carry."""
    topic: str
    queue_offset: int
    """Its place in its queue, or -1 when the server didn't say."""
    transaction_id: str


class CloseReport(NamedTuple):
    """What a bounded close did."""

    flushed: int
    """Sends and acks that were still under way and got their answer."""
    abandoned: int
    """Sends and acks that had no answer at the deadline."""
    elapsed: timedelta
