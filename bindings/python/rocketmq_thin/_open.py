"""What is opened by `await` or `async with`."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any, Callable, Generator, Generic, Iterator, Optional, TypeVar

from . import _native
from ._fork import forks
from ._loop import run
from .values import CloseReport, Seconds

_N = TypeVar("_N", _native.Client, _native.Producer, _native.SimpleConsumer, _native.PushConsumer)
_H = TypeVar("_H", bound="Handle[Any]")


def reusable(given: Any) -> Any:
    """An open that is tried again reads its arguments again, which an iterator does not allow."""
    return list(given) if isinstance(given, Iterator) else given


class Handle(Generic[_N]):
    """What `await` or `async with` opens, once."""

    _handle: _N
    # Those of the process that opened it.
    _forks: int

    def __init__(self, opening: Callable[[], _native.Operation[_N]], shown: str) -> None:
        # Raises for arguments of the wrong type.
        opening()
        self._opening: Callable[[], _native.Operation[_N]] = opening
        self._shown = shown
        # The tasks of a loop that open it at the same time take turns.
        self._locks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]
        self._locks = weakref.WeakKeyDictionary()

    def __getattr__(self, name: str) -> Any:
        if name == "_handle":
            raise RuntimeError(f"this {type(self).__name__} is not open: use `await` or `async with` on it first")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._shown}>"

    def _is_open(self) -> bool:
        return "_handle" in self.__dict__

    async def _open(self: _H) -> _H:
        if not self._is_open():
            async with self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
                if not self._is_open():
                    opened = await run(self._operation())
                    # Another loop may have been faster. Then this one is dropped, which closes it.
                    self._forks = forks()
                    if self.__dict__.setdefault("_handle", opened) is opened:
                        self._opened()
        return self

    def _operation(self) -> _native.Operation[_N]:
        """One attempt to open it."""
        return self._opening()

    def _opened(self) -> None:
        """What begins with the open."""

    def __await__(self: _H) -> Generator[Any, None, _H]:
        return self._open().__await__()

    async def __aenter__(self: _H) -> _H:
        return await self

    async def __aexit__(self, *_: object) -> None:
        # In a forked child it belongs to the parent.
        if self._forks == forks():
            await self.close()

    async def close(self, deadline: Optional[Seconds] = None) -> CloseReport:
        """Takes no more calls and waits up to `deadline` (default 20 s) for calls that are running."""
        return await run(self._handle.close(deadline))


def function(given: Any, name: str) -> Any:
    if not callable(given):
        raise TypeError(f"{name} must be a function, got {type(given).__name__}")
    return given
