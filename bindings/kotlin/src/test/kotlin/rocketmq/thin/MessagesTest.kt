package rocketmq.thin

import kotlin.time.Duration.Companion.milliseconds
import kotlin.time.Duration.Companion.minutes
import kotlin.time.Duration.Companion.seconds
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.awaitCancellation
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.onEach
import kotlinx.coroutines.flow.take
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

/** A simple consumer's flow of messages, its leases and its subscriptions. */
class MessagesTest : MergedTest() {
    private val Delivery.text get() = body.decodeToString()

    @Test
    fun `a flow emits until the collection ends`() = test { client ->
        val topic = unique("flow")
        val producer = client.producer { topics(topic) }
        val consumer = client.simpleConsumer(unique("group")) { subscribe(topic) }
        producer.sendAll(List(5) { Message(topic, "$it") }).forEach { it.getOrThrow() }
        val received = consumer.messages(maxMessages = 2).onEach { consumer.ack(it) }.take(5).toList()
        assertEquals(List(5) { "$it" }, received.map { it.text }.sorted())
    }

    @Test
    fun `a collection that ends gives back messages that were not emitted`() = test { client ->
        val topic = unique("rest")
        val producer = client.producer { topics(topic) }
        val consumer = client.simpleConsumer(unique("group")) { subscribe(topic) }
        producer.sendAll(List(5) { Message(topic, "$it") }).forEach { it.getOrThrow() }
        // Longer than the test may take, so that messages come back only if they are given back.
        val flow = consumer.messages(invisibleDuration = 10.minutes)
        val received = List(5) { flow.first().also { consumer.ack(it) } }
        assertEquals(List(5) { "$it" }, received.map { it.text }.sorted())
    }

    @Test
    fun `a cancelled collection loses no message`() = test { client ->
        val topic = unique("cancelled")
        val producer = client.producer { topics(topic) }
        val consumer = client.simpleConsumer(unique("group")) { subscribe(topic) }
        producer.sendAll(List(5) { Message(topic, "$it") }).forEach { it.getOrThrow() }
        val first = CompletableDeferred<Delivery>()
        withContext(Dispatchers.Default) {
            val collecting = launch {
                consumer.messages(invisibleDuration = 10.minutes).collect {
                    first.complete(it)
                    awaitCancellation()
                }
            }
            consumer.ack(first.await())
            collecting.cancelAndJoin()
        }
        val rest = mutableListOf<String>()
        while (rest.size < 4) for (delivery in consumer.receive()) rest += delivery.text
        assertEquals(List(5) { "$it" }, (rest + first.await().text).sorted())
    }

    @Test
    fun `a flow ends when its consumer is closed`() = test { client ->
        val topic = unique("closed")
        client.producer { topics(topic) }.send(Message(topic, "x"))
        val consumer = client.simpleConsumer(unique("group")) { subscribe(topic) }
        val received = withContext(Dispatchers.Default) {
            consumer.messages().onEach { delivery ->
                consumer.ack(delivery)
                launch { consumer.close() }
            }.toList()
        }
        assertEquals(listOf("x"), received.map { it.text })
        val late = runCatching { consumer.messages().first() }.exceptionOrNull()
        assertTrue(late is RocketMQException.Closed, "$late")
    }

    @Test
    fun `subscriptions can be changed at run time`() = test { client ->
        val (one, other) = unique("one") to unique("other")
        val producer = client.producer { topics(one, other) }
        val consumer = client.simpleConsumer(unique("group")) { subscribe(one, Filter.tags("a", "b")) }
        assertEquals(mapOf(one to Filter.tags("a", "b")), consumer.subscriptions())
        consumer.subscribe(other, Filter.sql("n > 1"))
        consumer.unsubscribe(one)
        assertEquals(mapOf(other to Filter.sql("n > 1")), consumer.subscriptions())
        producer.send(Message(one, "missed", tag = "a"))
        producer.send(Message(other, "received", properties = mapOf("n" to "2")))
        assertEquals("received", consumer.receive().single().text)
    }

    @Test
    fun `a lease is renewed until the delivery is settled`() = test { client ->
        val topic = unique("lease")
        client.producer { topics(topic) }.send(Message(topic, "x"))
        val consumer = client.simpleConsumer(unique("group")) { subscribe(topic) }
        val delivery = consumer.receive().single()
        consumer.keepLease(delivery, 1.minutes)
        assertFalse(delivery.isLeaseLost)
        consumer.deadLetter(delivery)
        assertThrows(RocketMQException.InvalidReceipt::class.java) { consumer.keepLease(delivery, 1.seconds) }
    }

    @Test
    fun `a consumer without the option lite has no lite topics`() = test { client ->
        val topic = unique("plain")
        client.producer { topics(topic) }
        val consumer = client.simpleConsumer(unique("group")) { subscribe(topic) }
        val failure = runCatching { consumer.subscribeLite("a") }.exceptionOrNull()
        assertTrue(failure is RocketMQException.InvalidArgument, "$failure")
        assertThrows(RocketMQException.InvalidArgument::class.java) {
            kotlinx.coroutines.runBlocking { consumer.liteRevocations().first() }
        }
        assertEquals(emptyList<String>(), consumer.liteTopics())
    }

    @Test
    fun `a negative argument is refused`() = test { client ->
        val topic = unique("negative")
        val consumer = client.simpleConsumer(unique("group")) { subscribe(topic) }
        val calls = mapOf<String, () -> Any>(
            "maxMessages" to { consumer.messages(maxMessages = -1) },
            "maxBytes" to { consumer.messages(maxBytes = -1) },
            "invisibleDuration" to { consumer.messages(invisibleDuration = (-1).milliseconds) },
            "after" to { ConsumeResult.RetryAfter((-1).milliseconds) },
        )
        for ((argument, call) in calls) {
            val error = assertThrows(IllegalArgumentException::class.java) { call() }
            assertTrue(error.message!!.startsWith("$argument must not be negative: -1"), error.message)
        }
    }
}
