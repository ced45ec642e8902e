package rocketmq.thin

import java.nio.file.Path
import java.util.UUID
import kotlin.time.Duration.Companion.milliseconds
import kotlin.time.Duration.Companion.minutes
import kotlin.time.Duration.Companion.seconds
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.awaitAll
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.flow.onEach
import kotlinx.coroutines.flow.take
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withContext
import org.junit.jupiter.api.AfterAll
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.BeforeAll
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestInstance
import org.junit.jupiter.api.io.CleanupMode
import org.junit.jupiter.api.io.TempDir

/** What is Kotlin's own: coroutines, cancellation, `use`, exceptions, types. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class ClientTest {
    private lateinit var proxy: MergedProxy

    @BeforeAll
    fun start(@TempDir(cleanup = CleanupMode.NEVER) data: Path) {
        proxy = MergedProxy(data, "--auto-create-topics", "true")
    }

    @AfterAll
    fun stop() = proxy.close()

    private fun unique(name: String) = "$name-${UUID.randomUUID()}"

    private fun test(block: suspend (Client) -> Unit) = runBlocking { Client.connect(proxy.endpoint).use { block(it) } }

    @Test
    fun `a message comes back as it was sent`() = test { client ->
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
    fun `many coroutines on many threads each get their own answer`() = test { client ->
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
    fun `cancelling the coroutine cancels the operation, and only that`() = test { client ->
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
    fun `a flow of deliveries goes on until its collector has enough`() = test { client ->
        val topic = unique("flow")
        val producer = client.producer { topics(topic) }
        val consumer = client.simpleConsumer(unique("group")) { subscribe(topic) }
        producer.sendAll(List(5) { Message(topic, "$it") }).forEach { it.getOrThrow() }
        val bodies = consumer.deliveries(maxMessages = 1).onEach { consumer.ack(it) }.take(5).toList()
        assertEquals(List(5) { "$it" }, bodies.map { it.body.decodeToString() }.sorted())
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
    fun `what was changed is acked with the newest handle`() = test { client ->
        val topic = unique("handle")
        val producer = client.producer { topics(topic) }
        val consumer = client.simpleConsumer(unique("group")) { subscribe(topic) }
        producer.send(Message(topic, "hello"))
        val delivery = consumer.receive().single()
        consumer.changeInvisible(delivery, 1.minutes)
        consumer.ack(delivery)
    }

    @Test
    fun `use closes, also when its block throws`() = runBlocking {
        val topic = unique("use")
        val (client, producer) = Client.connect(proxy.endpoint).use { it to it.producer { topics(topic) } }
        val closed = runCatching { producer.send(Message(topic, "late")) }.exceptionOrNull()
        assertEquals(ErrorKind.Closed, (closed as RocketMQException.Closed).kind)

        val own = IllegalStateException()
        assertEquals(own, runCatching { Client.connect(proxy.endpoint).use { throw own } }.exceptionOrNull())
        assertEquals(0, client.close(1.seconds).abandoned)
    }

    @Test
    fun `sendAll and ackAll tell what became of each`() = test { client ->
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
    fun `an error has all that the server and the core said`(@TempDir data: Path) {
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
                }
            }
        }
    }

    @Test
    fun `what no native type can hold is refused before the call`() = test { client ->
        val consumer = client.simpleConsumer(unique("group")) { subscribe(unique("negative")) }
        assertThrows(IllegalArgumentException::class.java) {
            runBlocking { consumer.receive(awaitDuration = (-1).milliseconds) }
        }
        assertThrows(IllegalArgumentException::class.java) { runBlocking { consumer.receive(maxMessages = -1) } }
    }
}
