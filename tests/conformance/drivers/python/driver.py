"""The Python driver of the conformance suite: requests as JSON lines on stdin, replies on stdout.

It only converts; `tests/conformance/README.md` describes the protocol. With `--blocking` it drives the blocking
API, with a thread for each request. Both APIs have the same methods, so the operations are written once.
"""

import asyncio
import base64
import itertools
import json
import sys
import threading

import rocketmq_thin
from rocketmq_thin import Credentials, Error, Message, Sql, Tags, Tls, aio


class Driver:
    def __init__(self, blocking):
        self.client = rocketmq_thin.Client if blocking else aio.Client
        self.call = in_thread if blocking else awaited
        self.made = {}
        self.count = itertools.count(1)
        self.running = {}

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
        if "tls" in given:
            given["tls"] = Tls() if given["tls"] == "system" else Tls(ca=given["tls"]["ca"].encode())
        return {"handle": self.keep("c", await self.call(self.client, **given))}

    async def op_producer(self, client, topics=()):
        return {"handle": self.keep("p", await self.call(self.made[client].producer, topics))}

    async def op_consumer(self, client, group, subscriptions):
        filters = {each["topic"]: subscribed(**each) for each in subscriptions}
        consumer = await self.call(self.made[client].simple_consumer, group, filters)
        return {"handle": self.keep("s", consumer)}

    async def op_send(self, producer, message):
        return receipt(await self.call(self.made[producer].send, sent(message)))

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
        report = await self.call(self.made[handle].close, seconds(deadline_ms))
        elapsed = round(report.elapsed.total_seconds() * 1000)
        return {"report": {"flushed": report.flushed, "abandoned": report.abandoned, "elapsed_ms": elapsed}}


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


def subscribed(topic, tags=None, sql=None):
    return Tags(*tags) if tags is not None else Sql(sql) if sql is not None else None


def sent(message):
    return Message(**{**message, "body": base64.b64decode(message["body"])})


def received(name, delivery):
    fields = ("message_id", "topic", "tag", "keys", "properties", "attempt", "corrupted")
    body = base64.b64encode(delivery.body).decode()
    return {"delivery": name, "body": body, **{field: getattr(delivery, field) for field in fields}}


def receipt(receipt):
    return receipt._asdict()


def results(outcomes, show):
    return {"results": [{"error": error(each)} if isinstance(each, Error) else {"ok": show(each)} for each in outcomes]}


def error(exception):
    if not isinstance(exception, Error):
        return {"kind": "Foreign", "message": repr(exception)}
    fields = ("kind", "code", "retryable", "maybe_delivered", "operation", "message")
    return {**{field: getattr(exception, field) for field in fields}, "shown": str(exception)}


def seconds(milliseconds):
    return None if milliseconds is None else milliseconds / 1000


def reply(id, **outcome):
    print(json.dumps({"id": id, **outcome}), flush=True)


if __name__ == "__main__":
    asyncio.run(Driver("--blocking" in sys.argv[1:]).serve())
