"""Forwards log records of the clients to `logging`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from . import _native
from ._handler_threads import require_threads, start
from ._observers import log_quietly

if TYPE_CHECKING:
    import logging

# From the most to the least verbose. The names are those of `logging` in lower case.
_LEVELS = ("debug", "info", "warn", "error")

_current: Optional[_native.Logs] = None


def forward_logs(logger: Optional[logging.Logger] = None) -> None:
    """Forwards log records of the clients of this process, such as lost connections, to a logger.

    Without this call, nothing is logged. A background thread forwards the records. At most 1,024 records wait for it;
    further records are dropped, and their number is logged. Another call replaces the logger. A forked child must call
    it again. Exceptions of the logger's handlers are ignored.

    Args:
        logger: The logger. Its level at the time of this call decides which records are forwarded. Default: the logger
            `rocketmq_thin`.
    """
    import logging

    global _current
    logger = logging.getLogger("rocketmq_thin") if logger is None else logger
    if not isinstance(logger, (logging.Logger, logging.LoggerAdapter)):
        raise TypeError(f"logger must be a logging.Logger, got {type(logger).__name__}")
    require_threads()
    level = next((level for level in _LEVELS if logger.isEnabledFor(getattr(logging, level.upper()))), None)
    if _current is not None:
        _current.close()
    _current = _native.Logs(level) if level is not None else None
    if _current is not None:
        start(_forward, _current, logger)


def _forward(logs: _native.Logs, logger: logging.Logger) -> None:
    import logging

    while _native.run(logs.wait()):
        for level, text in logs.take():
            log_quietly(logger, getattr(logging, level.upper()), text)
