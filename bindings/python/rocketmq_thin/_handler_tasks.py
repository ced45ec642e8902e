"""Runs an application's handlers, checkers and credential providers for the asyncio client."""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
from collections import deque
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any, Awaitable, Callable, Optional, Union

from . import _native
from ._handler_threads import MAX_THREADS, NO_THREAD, call_and_catch, is_shutdown, submit
from ._handling import MAX_TASKS, Pauses, answer_credentials, complete, put_back, to_decision, to_orphan_check
from ._loop import run, until_loop_ends
from ._native import Delivery
from ._observers import ObservedOperation, Observers, log, warn, within_trace
from .errors import Error
from .values import Credentials, Decision, OrphanCheck

Handler = Callable[[Delivery], Union[Awaitable[Optional[Exception]], Optional[Exception]]]
"""Handles a message. A plain function is called in a thread."""

Checker = Callable[[OrphanCheck], Union[Awaitable[Decision], Decision]]
"""Decides about an orphaned transaction. A plain function is called in a thread."""

Provider = Callable[[], Union[Awaitable[Credentials], Credentials]]
"""Provides credentials. A plain function is called in a thread."""


class NoThread(Exception):
    """A function was not called, because no thread could be started for it."""


class NotCalled(asyncio.CancelledError):
    """The caller was cancelled before it called a function."""


def _is_cancelled() -> bool:
    """Whether the current task is being cancelled, and not only something that it waits for."""
    if sys.version_info < (3, 11):
        # There is no way to ask.
        return True
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def call_and_catch_async(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """Returns an async function that calls `function` and returns its result, or the exception that it raised. This
    includes the `CancelledError` of something that the function waits for.

    A plain function is called in separate threads, because the loop has few threads, which the application needs. The
    threads end when the returned function is garbage-collected. If none can be started, the result is a `NoThread`.
    """

    async def called(*arguments: Any) -> Any:
        try:
            return await function(*arguments)
        except Exception as error:
            return error
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            return error

    async def called_in_thread(*arguments: Any) -> Any:
        try:
            context = copy_context()
            result: Future[Any] = Future()

            def call() -> None:
                if result.set_running_or_notify_cancel():
                    result.set_result(context.run(call_and_catch, function, *arguments))

            try:
                submit(threads, call, begun)
            except NO_THREAD as error:
                # The executor may have queued the call.
                result.cancel()
                if is_shutdown(error):
                    raise NotCalled from None
                return NoThread(str(error) or type(error).__name__)
            try:
                returned = await asyncio.wrap_future(result)
            except asyncio.CancelledError:
                if result.cancel():
                    raise NotCalled from None
                raise
            return await returned if isinstance(returned, Awaitable) else returned
        except Exception as error:
            return error

    # `asyncio.iscoroutinefunction` is deprecated since Python 3.14.
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):
        return called
    # Imported when it is first needed, because it would make the import of this package slower.
    from concurrent.futures import Future, ThreadPoolExecutor

    # Set by the first thread. The threads end only when the executor does.
    begun = threading.Event()
    threads = ThreadPoolExecutor(MAX_THREADS, "rocketmq-thin-handler", initializer=begun.set)
    return called_in_thread


class TaskSet:
    """Concurrent tasks of one event loop. It keeps a reference to each task until the task ends."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()

    def start(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def cancel(self) -> None:
        """Cancels the tasks. To be called in their loop."""
        for task in self.tasks:
            task.cancel()


async def handle_tasks(
    consumer: _native.PushConsumer, group: str, handler: Handler, handler_tasks: TaskSet, observers: Observers
) -> None:
    """Calls `handler` for each message, until the consumer is closed.

    Closes the consumer if the event loop ends first. Otherwise it would receive messages that nobody handles.
    """
    # The tasks whose handlers have not begun. A cancelled handler may never begin.
    waiting: deque[_native.Task] = deque()

    def abandon() -> None:
        put_back(waiting)
        if not consumer.is_closed():
            warn(f"the push consumer of group {group} is closed, because the event loop of its handler has ended")
            consumer.abandon()

    work = partial(_handle_tasks, consumer, group, handler, handler_tasks, observers, waiting)
    await until_loop_ends(work, abandon)
    put_back(waiting)


async def _handle_tasks(
    consumer: _native.PushConsumer,
    group: str,
    handler: Handler,
    handler_tasks: TaskSet,
    observers: Observers,
    waiting: deque[_native.Task],
) -> None:
    # Created once, because it costs more than the other work for a message.
    call_handler = call_and_catch_async(handler)

    # Not cancelled, because a close waits for the settlements.
    settlements = TaskSet()

    async def wait_and_call(delivery: Delivery) -> Any:
        pauses = Pauses()
        result = await call_handler(delivery)
        if isinstance(result, NoThread):
            log("failed to start a thread for a handler; its message waits", result)
        while isinstance(result, NoThread):
            try:
                await asyncio.sleep(pauses.next())
            except asyncio.CancelledError:
                raise NotCalled from None
            if consumer.is_closed():
                raise NotCalled
            result = await call_handler(delivery)
        return result

    async def handle_next() -> None:
        if not waiting:
            # It was put back.
            return
        task = waiting.popleft()
        try:
            with within_trace(task.delivery):
                handled = complete(observers, group, task, await wait_and_call(task.delivery))
        except NotCalled:
            task.put_back()
            return
        finally:
            # Does nothing if the task is completed. Otherwise the handler was cancelled.
            task.retry(None)
        if handled is not None:
            settlements.start(_settle(*handled))

    pauses = Pauses()
    while True:
        try:
            with observers.receiving(group) as received:
                tasks = await run(consumer.next_tasks(MAX_TASKS), lambda tasks: put_back(tasks or []))
                waiting.extend(tasks or ())
                received([task.delivery for task in tasks or ()])
            if tasks is None:
                return
            for _ in tasks:
                handler_tasks.start(handle_next())
            # The next ones may arrive much later.
            del tasks
            pauses.reset()
        except MemoryError as error:
            log("failed to hand out messages, which are delivered again", error)
            # A handler that was started finds one message less.
            put_back(waiting)
            await asyncio.sleep(pauses.next())


async def _settle(settling: ObservedOperation, settled: _native.Operation[bool]) -> None:
    """Waits until a message is settled, and calls interceptors."""
    # The client logs a failure.
    with suppress(Error), settling:
        await run(settled)


async def answer_checks(checks: _native.OrphanChecks, checker: Checker) -> None:
    """Answers orphan checks with the results of `checker`, until the producer is closed."""
    answers, call_checker = TaskSet(), call_and_catch_async(checker)
    while (check := await run(checks.next())) is not None:
        answers.start(_answer_check(check, call_checker))


async def _answer_check(check: _native.OrphanCheck, call_checker: Callable[..., Awaitable[Any]]) -> None:
    orphan_check = to_orphan_check(check)
    if orphan_check is not None:
        try:
            await run(check.decide(to_decision(await call_checker(orphan_check))))
        except Error as error:
            log("failed to send the decision about an orphaned transaction; the server asks again", error)


async def provide_credentials(requests: _native.CredentialRequests, provider: Provider) -> None:
    """Answers credential requests with the results of `provider`, until the client is closed.

    Refuses them if the event loop ends first.
    """
    refuse = partial(requests.refuse_all, "the provider's event loop has ended")
    await until_loop_ends(partial(_provide_credentials, requests, provider), refuse)


async def _provide_credentials(requests: _native.CredentialRequests, provider: Provider) -> None:
    call_provider = call_and_catch_async(provider)
    while await run(requests.next()):
        answer_credentials(requests, await call_provider())
