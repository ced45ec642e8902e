package rocketmq.thin

import java.nio.file.Path
import java.util.concurrent.Semaphore
import kotlin.time.Duration.Companion.milliseconds
import kotlin.time.Duration.Companion.minutes
import kotlin.time.Duration.Companion.seconds
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.awaitAll
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.future.await
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withContext
import kotlinx.coroutines.yield
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir

/** Tests clients, producers and simple consumers. */
class ClientTest : MergedTest() {
    @Test
    fun `a send of a message with two types fails`() = test { client ->
        val producer = client.producer()
        val message = Message(unique("both"), "x").messageGroup("a").priority(1)
        val failure = runCatching { producer.send(message) }.exceptionOrNull()
        assertTrue(failure is RocketMQException.InvalidArgument, "$failure")
    }

    @Test
    fun `a recall with an invalid handle fails`() = test { client ->
        val failure = runCatching { client.producer().recall(unique("recalled"), "no handle") }.exceptionOrNull()
        assertEquals("recall", (failure as RocketMQException).operation)
    }

    @Test
    fun `a message is delivered again after a nack`() = test { client ->
        val topic = unique("given-back")
        val producer = client.producer { topics(topic) }
        val consumer = client.simpleConsumer(unique("group")) { subscribe(topic) }
        val receipt = producer.send(Message(topic, "x"))
        consumer.nack(consumer.receive().single(), 1.seconds)
        val again = consumer.receive().single()
        assertEquals(receipt.messageId, again.messageId)
        assertEquals(2, again.attempt)
        consumer.ack(again)
        consumer.unsubscribe(topic)
    }

    @Test
    fun `a delivery has the fields of the message`() = test { client ->
        val topic = unique("types")
        val body = ByteArray(256) { it.toByte() }
        val properties = mapOf("größe" to "12 €", "empty-looking" to " ", "a" to "1")
        val producer = client.producer { topics(topic) }
        val consumer = client.simpleConsumer(unique("group")) { subscribe(topic, Filter.tags("new", "old")) }

        val receipt = producer.send(Message(topic, body, "new", listOf("42", "43"), properties))
        val delivery = consumer.receive().single()
        assertEquals(receipt.messageId, delivery.messageId)
        assertEquals(topic, delivery.topic)
        assertArrayEquals(body, delivery.body)
        assertEquals("new", delivery.tag)
        assertEquals(listOf("42", "43"), delivery.keys)
        assertEquals(properties, delivery.properties)
        assertNull(delivery.messageGroup)
        assertEquals(1, delivery.attempt)
        assertFalse(delivery.corrupted)
        consumer.ack(delivery)
    }

    @Test
    fun `concurrent coroutines each get their own result`() = test { client ->
        val topic = unique("crowd")
        val producer = client.producer { topics(topic) }
        val consumer = client.simpleConsumer(unique("group")) { subscribe(topic) }
        val sent = runBlocking(Dispatchers.Default) {
            List(200) { number ->
                async { number.toString() to producer.send(Message(topic, "$number")).messageId }
            }.awaitAll()
        }.toMap()
        assertEquals(200, sent.values.toSet().size)

        val received = mutableMapOf<String, String>()
        while (received.size < sent.size) {
            val deliveries = consumer.receive()
            deliveries.forEach { received[it.body.decodeToString()] = it.messageId }
            consumer.ackAll(deliveries).forEach { it.getOrThrow() }
        }
        assertEquals(sent, received)
    }

    @Test
    fun `cancelling a coroutine cancels only its own operation`() = test { client ->
        val topic = unique("cancel")
        val producer = client.producer { topics(topic) }
        val consumer = client.simpleConsumer(unique("group")) { subscribe(topic) }
        val waiting = Channel<Unit>()
        val receive = runBlocking(Dispatchers.Default) {
            launch {
                waiting.send(Unit)
                consumer.receive(awaitDuration = 20.seconds)
            }.also {
                waiting.receive()
                it.cancelAndJoin()
            }
        }
        assertTrue(receive.isCancelled)
        producer.send(Message(topic, "after"))
        assertEquals("after", consumer.receive().single().body.decodeToString())
    }

    @Test
    fun `messages that a cancelled receive has fetched go to the next one`() = test { client ->
        val topic = unique("late")
        val producer = client.producer { topics(topic) }
        val consumer = client.simpleConsumer(unique("group")) { subscribe(topic) }
        val rounds = 100
        val received = mutableListOf<Delivery>()
        withContext(Dispatchers.Default) {
            repeat(rounds) { round ->
                val receiving = launch { received += consumer.receive() }
                producer.send(Message(topic, "$round"))
                // The message arrives shortly before or after the cancellation.
                repeat(round % 10) { yield() }
                receiving.cancelAndJoin()
            }
        }
        while (received.size < rounds) received += consumer.receive()
        assertEquals(setOf(1), received.map { it.attempt }.toSet())
        assertEquals(rounds, received.map { it.messageId }.toSet().size)
    }

    @Test
    fun `messages that arrive for a future that is cancelled go to the next one`() {
        val arrived = Semaphore(0)
        val cancelled = Semaphore(0)
        val holding =
            object : Interceptor {
                override fun afterReceive(group: String, deliveries: List<Delivery>?, error: Throwable?) {
                    arrived.release()
                    cancelled.acquire()
                }
            }
        test({ interceptor(holding) }) { client ->
            val topic = unique("future")
            val consumer = client.simpleConsumer(unique("group")) { subscribe(topic) }
            client.producer { topics(topic) }.send(Message(topic, "x"))
            consumer.messagesAsync().use { messages ->
                for (receive in listOf({ consumer.receiveAsync() }, { messages.nextAsync() })) {
                    val receiving = receive()
                    arrived.acquire()
                    receiving.cancel(true)
                    cancelled.release()
                }
                cancelled.release()
                assertEquals(1, messages.nextAsync().await()?.attempt)
            }
        }
    }

    @Test
    fun `the polling thread ends when no operation is in progress, and starts again`() = test { client ->
        val producer = client.producer()
        val topic = unique("thread")
        repeat(2) {
            producer.send(Message(topic, "hello"))
            Thread.getAllStackTraces().keys.filter { it.name == "rocketmq-poll" }.forEach { it.join() }
        }
    }

    @Test
    fun `a coroutine without a dispatcher may block`() = test { client ->
        val topic = unique("blocking")
        val producer = client.producer { topics(topic) }
        withContext(Dispatchers.Unconfined) {
            producer.send(Message(topic, "first"))
            val nested = runBlocking { producer.send(Message(topic, "second")) }
            assertEquals(topic, nested.topic)
        }
    }

    @Test
    fun `a delivery can be acknowledged after its invisible time was changed`() = test { client ->
        val topic = unique("handle")
        val producer = client.producer { topics(topic) }
        val consumer = client.simpleConsumer(unique("group")) { subscribe(topic) }
        producer.send(Message(topic, "hello"))
        val delivery = consumer.receive().single()
        consumer.changeInvisible(delivery, 1.minutes)
        consumer.ack(delivery)
    }

    @Test
    fun `use closes the client even if its block throws`() = runBlocking {
        val topic = unique("use")
        val (client, producer) = Client.connect(proxy.endpoint).use { it to it.producer { topics(topic) } }
        val closed = runCatching { producer.send(Message(topic, "late")) }.exceptionOrNull()
        assertEquals(ErrorKind.Closed, (closed as RocketMQException.Closed).kind)

        val own = IllegalStateException()
        assertEquals(own, runCatching { Client.connect(proxy.endpoint).use { throw own } }.exceptionOrNull())
        assertEquals(0, client.close(1.seconds).abandoned)
    }

    @Test
    fun `sendAll and ackAll return a result for each item`() = test { client ->
        val topic = unique("each")
        val producer = client.producer { topics(topic) }
        val consumer = client.simpleConsumer(unique("group")) { subscribe(topic) }
        val results = producer.sendAll(listOf(Message(topic, "good"), Message(topic, "")))
        assertEquals(topic, results[0].getOrThrow().topic)
        assertEquals(ErrorKind.InvalidArgument, (results[1].exceptionOrNull() as RocketMQException).kind)

        val delivery = consumer.receive().single()
        assertEquals(listOf(Result.success(Unit)), consumer.ackAll(listOf(delivery)))
        assertEquals(emptyList<Result<Unit>>(), consumer.ackAll(emptyList()))
    }

    @Test
    fun `an exception has all fields of the error`(@TempDir data: Path) {
        MergedProxy(data, "--auto-create-topics", "false").use { strict ->
            runBlocking {
                Client.connect(strict.endpoint).use { client ->
                    val error = runCatching { client.producer { topics("nowhere") } }.exceptionOrNull()
                    error as RocketMQException.TopicNotFound
                    assertEquals(ErrorKind.TopicNotFound, error.kind)
                    assertEquals(40402, error.code)
                    assertFalse(error.retryable)
                    assertFalse(error.maybeDelivered)
                    assertEquals(strict.endpoint, error.endpoint)
                    assertTrue("nowhere" in error.message!!, error.message)
                    assertTrue("(TopicNotFound 40402 from ${strict.endpoint})" in "$error", "$error")
                    assertFalse("TopicNotFound" in error.message!!, error.message)
                }
            }
        }
    }

    @Test
    fun `the error of a negative argument names the argument`() = test { client ->
        val consumer = client.simpleConsumer(unique("group")) { subscribe(unique("negative")) }
        val calls = mapOf<String, suspend () -> Any>(
            "awaitDuration" to { consumer.receive(awaitDuration = (-1).milliseconds) },
            "maxMessages" to { consumer.receive(maxMessages = -1) },
            "maxAttempts" to { Client.connect("localhost") { maxAttempts = -1 } },
            "requestTimeout" to { Client.connect("localhost") { requestTimeout = (-1).milliseconds } },
            "maxInFlightBytes" to { client.producer { maxInFlightBytes = -1 } },
            "deadline" to { client.close((-1).milliseconds) },
        )
        for ((argument, call) in calls) {
            val error = assertThrows(IllegalArgumentException::class.java) { runBlocking { call() } }
            assertTrue(error.message!!.startsWith("$argument must not be negative: -1"), error.message)
        }
    }
}
