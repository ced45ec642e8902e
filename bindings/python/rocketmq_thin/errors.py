"""The errors: one class for each kind. All are subclasses of `Error`."""

from __future__ import annotations

from typing import ClassVar, Optional


class Error(Exception):
    """The error of a failed operation. `str()` returns operation, reason, kind, code and endpoint on one line.

    `except rocketmq_thin.Error` catches all kinds, and `except rocketmq_thin.errors.Throttled` only this kind.

    Attributes:
        kind: The name of the kind, which is also the name of the class. It is the same in every language.
        message: The reason: the server's text if it sent one.
        code: The server's code, such as 40402, or `None` if no server responded.
        retryable: Whether the same call may succeed later.
        maybe_delivered: Whether the server may have carried out the request although the call failed.
        operation: The operation that failed: `connect`, `send`, `receive`, `ack`, ...
        endpoint: The address of the server, as `host:port`.
        request_id: The id of the request, which is also in the server's logs.
    """

    kind: ClassVar[str] = "Error"
    message: str = ""
    code: Optional[int] = None
    retryable: bool = False
    maybe_delivered: bool = False
    operation: str = ""
    endpoint: Optional[str] = None
    request_id: Optional[str] = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.kind = cls.__name__


class InvalidArgument(Error):
    """The server refused the request as malformed or out of range."""


class Unauthenticated(Error):
    """The credentials are missing, wrong, or lack a right."""


class PermissionDenied(Error):
    """The server forbids this operation, for example a send to a topic without a writable queue."""


class TopicNotFound(Error):
    """The topic does not exist."""


class GroupNotFound(Error):
    """The consumer group does not exist."""


class NotFound(Error):
    """Something else does not exist."""


class TypeMismatch(Error):
    """The topic does not accept messages of this type."""


class InvalidReceipt(Error):
    """The lease on the delivery has ended: the message was acknowledged, or is delivered again."""


class TooLarge(Error):
    """The body, the properties or the headers exceed a limit."""


class Throttled(Error):
    """Too many requests, or a quota is exhausted."""


class Unavailable(Error):
    """The server cannot be reached, or failed."""


class Unsupported(Error):
    """The server does not support this operation."""


class Timeout(Error, TimeoutError):
    """There was no response in time."""


class Protocol(Error):
    """The server's response is invalid."""


class InvalidOptions(Error):
    """The options passed to the client are invalid."""


class Tls(Error):
    """The TLS handshake failed, for example because the certificate is not trusted."""


class Closed(Error):
    """The client, producer or consumer is closed, or was created before this process was forked."""


class Internal(Error):
    """A defect of the client itself: its code panicked. Please report it."""
