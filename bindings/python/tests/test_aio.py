"""What is specific to asyncio."""

import asyncio

import pytest

import rocketmq_thin
from rocketmq_thin import Message, aio


def test_a_waiting_receive_leaves_the_loop_free(server, name):
    async def main():
        async with aio.Client(server) as client, client.producer([name]) as producer:
            async with client.simple_consumer("loop-" + name, [name]) as consumer:
                receiving = asyncio.create_task(consumer.receive(max_messages=1, await_duration=20))
                for _ in range(100):
                    await producer.send(Message("elsewhere-" + name, b"x"))
                assert not receiving.done()
                receipt = await producer.send(Message(name, b"wanted"))
                (delivery,) = await receiving
                assert (delivery.message_id, delivery.body) == (receipt.message_id, b"wanted")
                await consumer.ack(delivery)

    asyncio.run(main())


def test_cancelling_a_task_cancels_its_operation_alone(server, name):
    async def main():
        async with aio.Client(server) as client:
            async with client.simple_consumer("cancel-" + name, [name]) as consumer, client.producer() as producer:
                receiving = asyncio.create_task(consumer.receive(await_duration=20))
                await asyncio.sleep(0)
                receiving.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await receiving
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(consumer.receive(await_duration=20), timeout=0)
                await producer.send(Message(name, b"later"))
                (delivery,) = await consumer.receive(max_messages=1)
                assert delivery.body == b"later"

    asyncio.run(main())


def test_many_at_once_and_one_loop_after_another(server, name):
    async def main():
        client = await aio.Client(server)
        producer = await client.producer(topics=[name])
        receipts = await asyncio.gather(*(producer.send(Message(name, b"%d" % i)) for i in range(1000)))
        assert len({receipt.message_id for receipt in receipts}) == 1000
        await client.close(5)

    asyncio.run(main())
    asyncio.run(main())


def test_what_is_not_open_says_so(server):
    async def main():
        with pytest.raises(RuntimeError, match="async with"):
            aio.Client(server).producer()
        async with aio.Client(server) as client:
            with pytest.raises(RuntimeError, match="async with"):
                await client.producer().send(Message("t", b"x"))

    asyncio.run(main())


def test_an_error_keeps_its_type_and_fields(server, name):
    async def main():
        async with aio.Client(server) as client, client.producer() as producer:
            with pytest.raises(rocketmq_thin.errors.InvalidArgument) as raised:
                await producer.send(Message(name + "/bad", b"x"))
            error = raised.value
            assert (error.kind, error.operation, error.retryable) == ("InvalidArgument", "send", False)
            assert isinstance(error.code, int) and str(error.code) in str(error)
            await producer.close()
            with pytest.raises(rocketmq_thin.errors.Closed):
                await producer.send(Message(name, b"x"))

    asyncio.run(main())
