"""The application's functions that an asyncio client calls: handlers and checkers."""

from __future__ import annotations

import asyncio
import inspect
from contextvars import copy_context
from functools import partial
from typing import Any, Awaitable, Callable, Union

from . import _native
from ._handling import MAX_TASKS, answer_credentials, complete, decision, question
from ._loop import run
from ._native import Delivery
from ._observers import Observers, log, within_trace
from ._threads import result
from .errors import Error
from .values import Credentials, Decision, OrphanCheck

Handler = Callable[[Delivery], Union[Awaitable[Any], Any]]
"""What handles a message: an async function, or a plain one, which is called in a thread."""

Checker = Callable[[OrphanCheck], Union[Awaitable[Decision], Decision]]
"""What decides about orphaned transactions: an async function, or a plain one, which is called in a thread."""

Provider = Callable[[], Union[Awaitable[Credentials], Credentials]]
"""What provides credentials: an async function, or a plain one, which is called in a thread."""


# The client itself limits how many messages are handled at the same time.
_MAX_THREADS = 1000


def results_of(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """An async function that returns what an application's function returns or raises.

    A plain function is called in threads of its own: those of the loop are few, and the application needs them. They end
    when nobody refers to the async function any more.
    """

    async def called(*arguments: Any) -> Any:
        try:
            return await function(*arguments)
        except Exception as error:
            return error

    async def called_in_thread(*arguments: Any) -> Any:
        call = partial(copy_context().run, result, function, *arguments)
        try:
            returned = await asyncio.get_running_loop().run_in_executor(threads, call)
            return await returned if isinstance(returned, Awaitable) else returned
        except Exception as error:
            return error

    # `asyncio.iscoroutinefunction` is deprecated since Python 3.14.
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):
        return called
    # Not before it is needed: it takes a part of the time that the import of this package takes.
    from concurrent.futures import ThreadPoolExecutor

    threads = ThreadPoolExecutor(_MAX_THREADS, "rocketmq-thin-handler")
    return called_in_thread


class Work:
    """Tasks of the loop that run side by side."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def cancel(self) -> None:
        for task in self.tasks:
            task.cancel()


async def handle_tasks(
    consumer: _native.PushConsumer, group: str, handler: Handler, work: Work, observers: Observers
) -> None:
    # Looked up once: it takes longer than the rest of what happens here for a message.
    handled = results_of(handler)

    async def handle(task: _native.Task) -> None:
        with within_trace(task.delivery):
            complete(observers, group, task, await handled(task.delivery))

    while True:
        with observers.receiving(group) as received:
            tasks = await run(consumer.next_tasks(MAX_TASKS))
            received([task.delivery for task in tasks or ()])
        if tasks is None:
            return
        for task in tasks:
            work.start(handle(task))


async def answer_checks(checks: _native.OrphanChecks, checker: Checker) -> None:
    work, checked = Work(), results_of(checker)
    while (check := await run(checks.next())) is not None:
        work.start(_answer_check(check, checked))


async def _answer_check(check: _native.OrphanCheck, checked: Callable[..., Awaitable[Any]]) -> None:
    asked = question(check)
    if asked is not None:
        try:
            await run(check.decide(decision(await checked(asked))))
        except Error as error:
            log("the decision about an orphaned transaction did not reach the server, which asks again", error)


async def provide_credentials(requests: _native.CredentialRequests, provider: Provider) -> None:
    provided = results_of(provider)
    while await run(requests.next()):
        answer_credentials(requests, await provided())
