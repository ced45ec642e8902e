"""The base class of asyncio objects that `await` or `async with` opens."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any, Callable, Generator, Generic, Iterator, Optional, TypeVar

from ._fork import fork_count
from ._loop import run
from ._native import Client, Operation, Producer, PushConsumer, SimpleConsumer
from .values import CloseReport, Duration

_N = TypeVar("_N", Client, Producer, SimpleConsumer, PushConsumer)
_H = TypeVar("_H", bound="Openable[Any]")


def reusable(argument: Any) -> Any:
    """Turns an iterator into a list, because a repeated open reads its arguments again."""
    return list(argument) if isinstance(argument, Iterator) else argument


class Openable(Generic[_N]):
    """Opened by `await` or `async with`, once."""

    _native: _N
    # The fork count of the process that opened it.
    _forks: int

    def __init__(self, opening: Callable[[], Operation[_N]], description: str) -> None:
        # Called here only because it raises for arguments of the wrong type.
        opening()
        self._opening: Callable[[], Operation[_N]] = opening
        self._description = description
        # One lock per loop, so that tasks which open the object at the same time open it once.
        self._locks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]
        self._locks = weakref.WeakKeyDictionary()

    def __getattr__(self, name: str) -> Any:
        if name == "_native":
            raise RuntimeError(f"this {type(self).__name__} is not open: use `await` or `async with` on it first")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._description}>"

    def _is_open(self) -> bool:
        return "_native" in self.__dict__

    async def _open(self: _H) -> _H:
        if not self._is_open():
            async with self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
                if not self._is_open():
                    opened = await run(self._operation())
                    # If another loop has opened it meanwhile, `opened` is dropped, which closes it.
                    self._forks = fork_count()
                    if self.__dict__.setdefault("_native", opened) is opened:
                        self._opened()
        return self

    def _operation(self) -> Operation[_N]:
        """Creates the operation of one attempt to open the object."""
        return self._opening()

    def _opened(self) -> None:
        """Called once after the object was opened."""

    def __await__(self: _H) -> Generator[Any, None, _H]:
        return self._open().__await__()

    async def __aenter__(self: _H) -> _H:
        return await self

    async def __aexit__(self, *_: object) -> None:
        # In a forked child, an inherited object is left to the parent.
        if self._forks == fork_count():
            await self.close()

    async def close(self, deadline: Optional[Duration] = None) -> CloseReport:
        """Accepts no more calls, and waits up to `deadline` (default 20 s) for running calls."""
        return await run(self._native.close(deadline))


def require_callable(value: Any, name: str) -> Any:
    """Returns the function. Raises `TypeError` if the value is not callable."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, got {type(value).__name__}")
    return value
