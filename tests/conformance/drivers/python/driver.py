"""The Python driver of the conformance suite: requests as JSON lines on stdin, replies on stdout.

It only converts; `tests/conformance/README.md` describes the protocol. With `--blocking` it drives the blocking
API, with a thread for each request. Both APIs have the same methods, so the operations are written once.
"""

import asyncio
import base64
import functools
import gc
import itertools
import json
import sys
import threading
from datetime import datetime, timedelta, timezone

import rocketmq_thin
from rocketmq_thin import (
    Credentials,
    DeadLetter,
    Decision,
    Error,
    Histogram,
    Lite,
    Message,
    OffsetOption,
    Receipt,
    Retry,
    Sql,
    Tags,
    Tls,
    aio,
)
from scripted import Answers, Reporting, event, write

EPOCH = datetime.fromtimestamp(0, timezone.utc)

FEATURES = [
    "message_types",
    "recall",
    "transactions",
    "subscribe",
    "settle",
    "keep_lease",
    "stream",
    "push_consumer",
    "lite",
    "health",
    "lazy",
    "tls_options",
    "credentials_provider",
    "compression",
    "metrics",
    "interceptors",
    "trace_context",
    "drop",
]


class Driver:
    def __init__(self, blocking):
        self.client = rocketmq_thin.Client if blocking else aio.Client
        self.call = in_thread if blocking else awaited
        self.made = {}
        self.count = itertools.count(1)
        self.running = {}
        self.answers = {}
        self.following = set()

    async def serve(self):
        while line := await in_thread(sys.stdin.readline):
            request = json.loads(line)
            id, op = request.pop("id"), request.pop("op")
            if op == "exit":
                reply(id, ok={})
                break
            if op == "cancel":
                if task := self.running.get(request["request"]):
                    task.cancel()
                reply(id, ok={})
                continue
            task = asyncio.create_task(self.answer(id, op, request))
            self.running[id] = task
            task.add_done_callback(lambda _, id=id: self.running.pop(id))

    async def answer(self, id, op, request):
        try:
            reply(id, ok=await getattr(self, f"op_{op}")(**request))
        except asyncio.CancelledError:
            reply(id, error={"kind": "Cancelled"})
        except Exception as exception:
            reply(id, error=error(exception))

    def keep(self, prefix, value):
        name = f"{prefix}{next(self.count)}"
        self.made[name] = value
        return name

    async def op_connect(self, options):
        given = {name: value for name, value in options.items() if value is not None}
        for name in ("request_timeout", "operation_timeout", "startup_timeout"):
            if (milliseconds := given.pop(f"{name}_ms", None)) is not None:
                given[name] = milliseconds / 1000
        if "credentials" in given:
            given["credentials"] = Credentials(**given["credentials"])
        if provided := given.pop("credentials_provider", None):
            given["credentials"] = provider(provided)
        if how := given.pop("interceptor", None):
            given["interceptors"] = [Reporting(how)]
        if "tls" in given:
            given["tls"] = tls(given["tls"])
        return {"handle": self.keep("c", await self.call(self.client, **given))}

    async def op_features(self):
        return {"features": FEATURES}

    async def op_producer(self, client, topics=(), checker=None, **options):
        name = f"p{next(self.count)}"
        if checker is not None:
            answers = self.answers[name] = Answers(checker, "unknown")
            options["checker"] = self.function(lambda check: self.check(name, answers, check))
        self.made[name] = await self.call(self.made[client].producer, topics, **options)
        return {"handle": name}

    def function(self, handle):
        """The function of the application: async, or a plain one for the blocking API."""
        if self.call is awaited:
            return handle
        return lambda argument: asyncio.run(handle(argument))

    async def check(self, name, answers, check):
        ids = {"message_id": check.message_id, "transaction_id": check.transaction_id}
        event("asked", handle=name, body=base64.b64encode(check.message.body).decode(), **ids)
        answer = await answers.next(check.message.tag, check.message_id, "commit")
        if answer == "throw":
            raise ValueError("as scripted")
        return Decision(answer)

    async def handle(self, name, answers, delivery):
        about = {"handle": name, "body": base64.b64encode(delivery.body).decode(), "message_id": delivery.message_id}
        event("start", attempt=delivery.attempt, message_group=delivery.message_group, **about)
        answer = await answers.next(delivery.tag, delivery.message_id, "ack")
        event("end", answer=answer, **about)
        if answer == "throw":
            raise ValueError("as scripted")
        if answer == "retry":
            raise Retry
        if answer == "dead_letter":
            raise DeadLetter
        if isinstance(answer, dict):
            raise Retry(seconds(answer["retry_after_ms"]))

    async def op_push_consumer(self, client, group, subscriptions=(), lite=None, handler=None, **options):
        name = f"k{next(self.count)}"
        answers = self.answers[name] = Answers(handler or {}, "ack")
        options["invisible_duration"] = seconds(options.pop("invisible_ms", None))
        handle = self.function(lambda delivery: self.handle(name, answers, delivery))
        sources = Lite(lite) if lite else {each["topic"]: subscribed(**each) for each in subscriptions}
        consumer = await self.call(self.made[client].push_consumer, group, sources, handle, **options)
        self.made[name] = consumer
        if lite:
            self.follow(consumer.lite_revocations(), lambda topic: event("revoked", handle=name, lite_topic=topic))
        return {"handle": name}

    def follow(self, items, tell):
        """Tells of each item of an iterator, in the background."""

        async def tell_all():
            async for item in items:
                tell(item)

        if self.call is awaited:
            task = asyncio.create_task(tell_all())
            self.following.add(task)
        else:
            threading.Thread(target=lambda: [tell(item) for item in items], daemon=True).start()

    async def op_release(self, handle):
        self.answers[handle].release()
        return {}

    async def op_pause(self, consumer):
        self.made[consumer].pause()
        return {}

    async def op_resume(self, consumer):
        self.made[consumer].resume()
        return {}

    async def op_recall(self, producer, topic, recall_handle):
        of_message = Receipt(message_id="", topic=topic, queue_offset=-1, transaction_id="", recall_handle=recall_handle)
        return {"message_id": await self.call(self.made[producer].recall, of_message)}

    async def op_begin(self, producer):
        return {"handle": self.keep("t", self.made[producer].begin())}

    async def op_commit(self, transaction):
        await self.call(self.made[transaction].commit)
        return {}

    async def op_rollback(self, transaction):
        await self.call(self.made[transaction].rollback)
        return {}

    async def op_subscribe(self, consumer, topic, **given):
        await self.call(self.made[consumer].subscribe, topic, subscribed(topic, **given))
        return {}

    async def op_unsubscribe(self, consumer, topic):
        await self.call(self.made[consumer].unsubscribe, topic)
        return {}

    async def op_nack(self, consumer, delivery, after_ms):
        await self.call(self.made[consumer].nack, self.made[delivery], seconds(after_ms))
        return {}

    async def op_dead_letter(self, consumer, delivery):
        await self.call(self.made[consumer].dead_letter, self.made[delivery])
        return {}

    async def op_keep_lease(self, consumer, delivery, max_ms):
        self.made[consumer].keep_lease(self.made[delivery], seconds(max_ms))
        return {}

    async def op_stream(self, consumer, invisible_ms=None, **options):
        messages = self.made[consumer].messages(invisible_duration=seconds(invisible_ms), **options)
        return {"handle": self.keep("m", messages)}

    async def op_next(self, stream):
        messages = self.made[stream]
        following = messages.__anext__ if self.call is awaited else functools.partial(next, messages, None)
        try:
            delivery = await self.call(following)
        except StopAsyncIteration:
            delivery = None
        return {"message": delivery and received(self.keep("d", delivery), delivery)}

    async def op_subscribe_lite(self, consumer, lite_topic, **given):
        start = offset_option(**given)
        await self.call(self.made[consumer].subscribe_lite, lite_topic, start)
        return {}

    async def op_unsubscribe_lite(self, consumer, lite_topic):
        await self.call(self.made[consumer].unsubscribe_lite, lite_topic)
        return {}

    async def op_lite_topics(self, consumer):
        return {"lite_topics": self.made[consumer].lite_topics()}

    async def op_health(self, client):
        return shown(self.made[client].health())

    async def op_metrics(self, client):
        return {"metrics": {metric.name: total(metric) for metric in self.made[client].metrics() if metric.points}}

    async def op_watch(self, client):
        tell = lambda health: event("status", handle=client, **shown(health))
        self.follow(self.made[client].status_changes(), tell)
        return {}

    async def op_drop(self, handle):
        del self.made[handle]
        gc.collect()
        return {}

    async def op_consumer(self, client, group, subscriptions=(), lite=None):
        sources = Lite(lite) if lite else {each["topic"]: subscribed(**each) for each in subscriptions}
        consumer = await self.call(self.made[client].simple_consumer, group, sources)
        return {"handle": self.keep("s", consumer)}

    async def op_send(self, message, producer=None, transaction=None):
        return receipt(await self.call(self.made[producer or transaction].send, sent(message)))

    async def op_send_all(self, producer, messages):
        return results(await self.call(self.made[producer].send_all, [sent(each) for each in messages]), receipt)

    async def op_receive(self, consumer, max_messages=None, invisible_ms=None, await_ms=None):
        deliveries = await self.call(
            self.made[consumer].receive,
            max_messages=max_messages,
            invisible_duration=seconds(invisible_ms),
            await_duration=seconds(await_ms),
        )
        return {"messages": [received(self.keep("d", delivery), delivery) for delivery in deliveries]}

    async def op_ack(self, consumer, delivery):
        await self.call(self.made[consumer].ack, self.made[delivery])
        return {}

    async def op_ack_all(self, consumer, deliveries):
        outcomes = await self.call(self.made[consumer].ack_all, [self.made[name] for name in deliveries])
        return results(outcomes, lambda _: {})

    async def op_change_invisible(self, consumer, delivery, invisible_ms):
        await self.call(self.made[consumer].change_invisible, self.made[delivery], seconds(invisible_ms))
        return {}

    async def op_close(self, handle, deadline_ms=None):
        if handle.startswith("m"):
            await self.call(self.made[handle].close)
            return {}
        report = (await self.call(self.made[handle].close, seconds(deadline_ms)))._asdict()
        elapsed = round(report.pop("elapsed").total_seconds() * 1000)
        return {"report": {**report, "elapsed_ms": elapsed}}


async def awaited(function, *args, **kwargs):
    return await function(*args, **kwargs)


async def in_thread(function, *args, **kwargs):
    """Runs a call in a daemon thread, which does not keep the program running."""
    loop, future = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

    def settle(set, value):
        if not future.done():
            set(value)

    def work():
        try:
            outcome = (settle, future.set_result, function(*args, **kwargs))
        except BaseException as exception:
            outcome = (settle, future.set_exception, exception)
        loop.call_soon_threadsafe(*outcome)

    threading.Thread(target=work, daemon=True).start()
    return await future


def offset_option(**given):
    if not given:
        return None
    start = given["from"]
    if isinstance(start, str):
        return getattr(OffsetOption, start.upper())
    ((kind, value),) = start.items()
    if kind == "timestamp_ms":
        return OffsetOption.timestamp(EPOCH + timedelta(milliseconds=value))
    return getattr(OffsetOption, kind)(value)


def subscribed(topic, tags=None, sql=None):
    return Tags(*tags) if tags is not None else Sql(sql) if sql is not None else None


def tls(given):
    if given == "system":
        return Tls()
    pem = lambda name: given[name].encode() if name in given else None
    return Tls(
        ca=pem("ca"),
        certificate=pem("cert"),
        key=pem("key"),
        server_name=given.get("server_name"),
        dangerously_skip_verification=given.get("skip_verification", False),
    )


def provider(provided):
    """Each call gets the next answer; the last one repeats."""
    calls = itertools.chain(provided, itertools.repeat(provided[-1]))

    def provide():
        given = next(calls)
        if given == "throw":
            raise ValueError("as scripted")
        return Credentials(**given)

    return provide


def total(metric):
    """The sum over all labels."""
    values = [value for _, value in metric.points]
    if isinstance(values[0], Histogram):
        return {"count": sum(sum(each.counts) for each in values), "sum": sum(each.sum for each in values)}
    return sum(values)


def shown(health):
    return {"status": health.status.capitalize(), "error": health.error and str(health.error)}


def sent(message):
    given = {**message, "body": base64.b64decode(message["body"])}
    if "deliver_at_ms" in given:
        given["deliver_at"] = EPOCH + timedelta(milliseconds=given.pop("deliver_at_ms"))
    if "delay_ms" in given:
        given["delay"] = seconds(given.pop("delay_ms"))
    return Message(**given)


def received(name, delivery):
    fields = ("message_id", "topic", "tag", "keys", "properties", "attempt", "corrupted", "message_group")
    fields += ("priority", "lite_topic", "trace_parent")
    due, origin = delivery.deliver_at, delivery.dead_letter_origin
    return {
        "delivery": name,
        "body": base64.b64encode(delivery.body).decode(),
        "deliver_at_ms": due and round((due - EPOCH).total_seconds() * 1000),
        "dead_letter_origin": origin and dict(zip(("topic", "message_id"), origin)),
        **{field: getattr(delivery, field) for field in fields},
    }


def receipt(receipt):
    return receipt._asdict()


def results(outcomes, show):
    return {"results": [{"error": error(each)} if isinstance(each, Error) else {"ok": show(each)} for each in outcomes]}


def error(exception):
    if not isinstance(exception, Error):
        return {"kind": "Foreign", "message": repr(exception)}
    fields = ("kind", "code", "retryable", "maybe_delivered", "operation", "message")
    causes, cause = [], exception
    while cause := cause.__cause__:
        causes.append(str(cause))
    return {**{field: getattr(exception, field) for field in fields}, "causes": causes, "shown": str(exception)}


def seconds(milliseconds):
    return None if milliseconds is None else milliseconds / 1000


def reply(id, **outcome):
    write({"id": id, **outcome})


if __name__ == "__main__":
    asyncio.run(Driver("--blocking" in sys.argv[1:]).serve())
