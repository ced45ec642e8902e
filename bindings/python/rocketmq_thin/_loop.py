"""Operations on the asyncio side: submitted by id, resolved many at a time when the loop sees the descriptor."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from . import _native

_T = TypeVar("_T")

# A drain gives the loop back to others after this many; what is left wakes it again.
_BATCH = 256


class Completions:
    """The operations of one event loop. It is never blocked by them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._native = _native.Completions()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        loop.add_reader(self._native.fileno(), self._resolve)

    @property
    def forked(self) -> bool:
        return self._native.forked

    async def run(self, operation: _native.Operation[_T]) -> _T:
        future = self._loop.create_future()
        id = self._native.submit(operation)
        self._waiting[id] = future
        try:
            value: _T = await future
            return value
        finally:
            # Still there: the task was cancelled.
            if self._waiting.pop(id, None) is not None:
                self._native.cancel(id)

    def _resolve(self) -> None:
        waiting = self._waiting
        for id, failed, value in self._native.drain(_BATCH):
            future = waiting.pop(id, None)
            if future is None or future.done():
                continue
            if failed:
                future.set_exception(value)
            else:
                future.set_result(value)


_by_loop: dict[asyncio.AbstractEventLoop, Completions] = {}


def completions() -> Completions:
    """Those of the running loop."""
    loop = asyncio.get_running_loop()
    found = _by_loop.get(loop)
    if found is None or found.forked:
        for other in list(_by_loop):
            if other.is_closed():
                _by_loop.pop(other, None)
        found = _by_loop[loop] = Completions(loop)
    return found
