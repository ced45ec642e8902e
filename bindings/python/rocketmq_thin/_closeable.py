"""The base class of clients, producers and consumers of the blocking API."""

from __future__ import annotations

from typing import Any, Generic, Optional, TypeVar

from . import _native
from ._fork import fork_count
from ._native import run
from .values import CloseReport, Duration

_N = TypeVar("_N", _native.Client, _native.Producer, _native.SimpleConsumer, _native.PushConsumer)
_H = TypeVar("_H", bound="Closeable[Any]")


class Closeable(Generic[_N]):
    """The base class of objects that `with` or `close` closes."""

    def __init__(self, opening: _native.Operation[_N], description: str) -> None:
        self._forks, self._description = fork_count(), description
        self._native: _N = run(opening)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._description}>"

    def __enter__(self: _H) -> _H:
        return self

    def __exit__(self, *_: object) -> None:
        # In a forked child, an inherited object is left to the parent.
        if self._forks == fork_count():
            self.close()

    def close(self, deadline: Optional[Duration] = None) -> CloseReport:
        """Accepts no more calls, and waits up to `deadline` (default 20 s) for running calls."""
        return run(self._native.close(deadline))
