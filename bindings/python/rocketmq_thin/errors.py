"""What can go wrong: one class per kind, all of them an `Error`."""

from __future__ import annotations

from typing import ClassVar, Optional


class Error(Exception):
    """Why an operation failed. `str()` of it tells all on one line.

    `except rocketmq_thin.Error` catches every kind; `except rocketmq_thin.Throttled` just that one.
    """

    kind: ClassVar[str] = "Error"
    """The kind's name, the same in every language; it is also the name of the class."""
    message: str = ""
    """The reason in words, the server's where it gave any."""
    code: Optional[int] = None
    """The server's code, such as 40402; `None` when no server answered."""
    retryable: bool = False
    """Whether the same call may succeed later."""
    maybe_delivered: bool = False
    """Whether the server may have carried out the request all the same: its answer was lost, or says so."""
    operation: str = ""
    """What failed: `connect`, `send`, `receive`, `ack`, ..."""
    endpoint: Optional[str] = None
    """The address that was asked, as `host:port`."""
    request_id: Optional[str] = None
    """The id of the request, for a search in the server's logs."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.kind = cls.__name__


class InvalidArgument(Error):
    """The server refused the request as malformed or out of range."""


class Unauthenticated(Error):
    """The credentials are missing, wrong, or lack a right."""


class PermissionDenied(Error):
    """The server forbids this operation, as on a topic without a writable queue."""


class TopicNotFound(Error):
    """The topic does not exist."""


class GroupNotFound(Error):
    """The consumer group does not exist."""


class NotFound(Error):
    """Something else does not exist."""


class TypeMismatch(Error):
    """The topic does not take messages of this type."""


class InvalidReceipt(Error):
    """The lease on the delivery is over or was used up: the message comes, or came, again."""


class TooLarge(Error):
    """Body or properties exceed a limit."""


class Throttled(Error):
    """The server asks to slow down, or a quota is used up."""


class Unavailable(Error):
    """The server, or the way to it, is in trouble."""


class Unsupported(Error):
    """The server does not offer this operation."""


class Timeout(Error, TimeoutError):
    """No answer within the time allowed."""


class Protocol(Error):
    """The server's answer makes no sense."""


class InvalidOptions(Error):
    """The options given to the client cannot work."""


class Tls(Error):
    """The TLS handshake failed, as with a certificate that is not trusted."""


class Closed(Error):
    """The client, producer or consumer is closed, or was made before this process was forked."""
