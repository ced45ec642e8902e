"""What clients report about themselves, passed on to `logging`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from . import _native
from ._observers import report
from ._threads import start

if TYPE_CHECKING:
    import logging

# From the finest on. The names are those of `logging` in lower case.
_LEVELS = ("debug", "info", "warn", "error")

_current: Optional[_native.Logs] = None


def forward_logs(logger: Optional[logging.Logger] = None) -> None:
    """Passes on what clients of this process report about themselves, such as lost connections, to a logger.

    Without this call nothing is reported. A thread logs the reports soon after. At most 1,024 of them wait for it;
    beyond that they are counted only. Another call replaces the logger. A forked child calls it again. What the
    handlers of the logger raise is ignored.

    Args:
        logger: Where reports go. Its level at the time of this call decides which are made. Default: the logger
            `rocketmq_thin`.
    """
    import logging

    global _current
    logger = logging.getLogger("rocketmq_thin") if logger is None else logger
    if not isinstance(logger, (logging.Logger, logging.LoggerAdapter)):
        raise TypeError(f"logger must be a logging.Logger, got {type(logger).__name__}")
    level = next((level for level in _LEVELS if logger.isEnabledFor(getattr(logging, level.upper()))), None)
    if _current is not None:
        _current.close()
    _current = _native.Logs(level) if level is not None else None
    if _current is not None:
        start(_forward, _current, logger)


def _forward(logs: _native.Logs, logger: logging.Logger) -> None:
    import logging

    while _native.run(logs.arrived()):
        for level, text in logs.take():
            report(logger, getattr(logging, level.upper()), text)
