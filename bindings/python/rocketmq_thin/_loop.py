"""Operations of asyncio event loops. Outcomes are fetched in batches when a descriptor is readable."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Awaitable, Callable, Optional, TypeVar

from . import _native
from ._fork import fork_count

_T = TypeVar("_T")

# The maximum number of outcomes that are fetched before other callbacks of the loop run.
_MAX_OUTCOMES = 256


class _Completions:
    """The operations of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.forks = fork_count()
        self.native = _native.Completions()
        # By id, until the task of the operation has run: the future, and a function that gets a value that the task
        # does not take.
        self.waiting: dict[int, tuple[asyncio.Future[Any], Optional[Callable[[Any], None]]]] = {}
        # Callbacks for the end of the loop, each with its task; see `until_loop_ends`.
        self.on_loop_end: dict[Callable[[], None], Optional[asyncio.Task[Any]]] = {}
        loop.add_reader(self.native.fileno(), _Reader(self))

    def resolve(self) -> None:
        for id, failed, value in self.native.drain(_MAX_OUTCOMES):
            future, put_back = self.waiting[id]
            if not future.done():
                if failed:
                    future.set_exception(value)
                else:
                    future.set_result(value)
                continue
            del self.waiting[id]
            if put_back is not None and not failed:
                put_back(value)

    def cancel(self, id: int) -> None:
        """Cancels an operation whose task does not take its value."""
        waiting = self.waiting.pop(id, None)
        if waiting is not None and not _put_back_untaken(*waiting):
            self.native.cancel(id)

    def loop_ended(self, callback: Callable[[], None]) -> None:
        """Calls one of `on_loop_end`, once."""
        if callback in self.on_loop_end:
            del self.on_loop_end[callback]
            callback()

    def close(self) -> None:
        self.native.close()
        waiting, self.waiting = self.waiting, {}
        # In a forked child, the callbacks belong to the parent. At the end of the interpreter they have no effect.
        if self.forks == fork_count() and not sys.is_finalizing():
            for future, put_back in waiting.values():
                _put_back_untaken(future, put_back)
            for callback in list(self.on_loop_end):
                self.loop_ended(callback)


def _put_back_untaken(future: asyncio.Future[_T], put_back: Optional[Callable[[_T], None]]) -> bool:
    """Returns whether the future was resolved. Puts back its value, which its task has not taken."""
    if not future.done() or future.cancelled():
        return False
    if future.exception() is None and put_back is not None:
        put_back(future.result())
    return True


class _Reader:
    """The callback of a loop for outcomes that have arrived.

    Only the loop refers to it. It is deleted when the loop is closed or dropped, and cancels the loop's operations.
    """

    __slots__ = ("_completions",)

    def __init__(self, completions: _Completions) -> None:
        self._completions = completions

    def __call__(self) -> None:
        self._completions.resolve()

    def __del__(self) -> None:
        self._completions.close()


# The completions are an attribute of the loop. A table would keep loops alive that are dropped without a close, because
# pending futures refer to their loop.
_ATTRIBUTE = "_rocketmq_thin_completions"


def _completions(loop: asyncio.AbstractEventLoop) -> _Completions:
    completions: Optional[_Completions] = getattr(loop, _ATTRIBUTE, None)
    # A forked child needs new completions for an inherited loop.
    if completions is None or completions.forks != fork_count():
        completions = _Completions(loop)
        setattr(loop, _ATTRIBUTE, completions)
    return completions


async def run(operation: _native.Operation[_T], put_back: Optional[Callable[[_T], None]] = None) -> _T:
    """Runs an operation on the running loop. Cancelling the task cancels the operation.

    `put_back` gets the value if the operation has already completed when the task is cancelled, or when the loop ends.
    """
    loop = asyncio.get_running_loop()
    completions = _completions(loop)
    # First: a failure must not leave a submitted operation without a future.
    future: asyncio.Future[_T] = loop.create_future()
    id = completions.native.submit(operation)
    completions.waiting[id] = future, put_back
    try:
        value = await future
    except BaseException:
        completions.cancel(id)
        raise
    completions.waiting.pop(id, None)
    return value


async def until_loop_ends(work: Callable[[], Awaitable[None]], on_loop_end: Callable[[], None]) -> None:
    """Runs `work`, which ends when a client, producer or consumer is closed.

    Calls `on_loop_end` if the task is cancelled or fails before that, or the loop is closed or dropped.
    """
    completions = _completions(asyncio.get_running_loop())
    # This also keeps the task alive: loops have only weak references to their tasks.
    completions.on_loop_end[on_loop_end] = asyncio.current_task()
    try:
        await work()
    except BaseException:
        completions.loop_ended(on_loop_end)
        raise
    finally:
        completions.on_loop_end.pop(on_loop_end, None)
