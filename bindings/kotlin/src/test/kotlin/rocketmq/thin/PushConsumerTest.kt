package rocketmq.thin

import java.util.ResourceBundle
import java.util.concurrent.ConcurrentLinkedQueue
import java.util.concurrent.CountDownLatch
import kotlin.time.Duration
import kotlin.time.Duration.Companion.seconds
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.awaitAll
import kotlinx.coroutines.awaitCancellation
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.future.await
import kotlinx.coroutines.launch
import kotlinx.coroutines.withTimeout
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

/** Push consumers: handlers in coroutines and threads, their results, pause and close. */
class PushConsumerTest : MergedTest() {
    @Test
    fun `handlers run concurrently, and not on the polling thread`() = test { client ->
        val topic = unique("crowd")
        val producer = client.producer { topics(topic) }
        val begun = List(8) { CompletableDeferred<String>() }
        client.pushConsumer(unique("group")) {
            subscribe(topic)
            concurrency = 8
            handler { delivery ->
                begun[delivery.body.decodeToString().toInt()].complete(Thread.currentThread().name)
                // No handler continues before all have begun.
                begun.awaitAll()
                ConsumeResult.Ack
            }
        }
        producer.sendAll(List(8) { Message(topic, "$it") })
        assertFalse("rocketmq-poll" in begun.awaitAll())
    }

    @Test
    fun `each blocking handler has a thread`() = test { client ->
        val topic = unique("blocking")
        val producer = client.producer { topics(topic) }
        // More than the usual thread pools have.
        val all = java.util.concurrent.CyclicBarrier(80)
        val handled = Channel<Unit>(Channel.UNLIMITED)
        client.pushConsumer(unique("group")) {
            subscribe(topic)
            concurrency = 80
            blockingHandler {
                all.await()
                handled.trySend(Unit)
                ConsumeResult.Ack
            }
        }
        producer.sendAll(List(80) { Message(topic, "$it") })
        repeat(80) { handled.receive() }
    }

    @Test
    fun `the results of a handler`() {
        val log = Log()
        test({ logger = log }) { client ->
            val topic = unique("results")
            val group = unique("group")
            val handled = Channel<String>(Channel.UNLIMITED)
            val consumer = client.pushConsumer(group) {
                subscribe(topic)
                handler { delivery ->
                    val text = delivery.body.decodeToString()
                    handled.send("$text ${delivery.attempt}")
                    when {
                        text == "dead" -> ConsumeResult.DeadLetter
                        delivery.attempt > 1 -> ConsumeResult.Ack
                        text == "later" -> ConsumeResult.RetryAfter(Duration.ZERO)
                        // This timeout is a failure of the handler, not a cancellation of the consumer.
                        text == "slow" -> withTimeout(Duration.ZERO) { awaitCancellation() }
                        else -> error("as tested")
                    }
                }
            }
            val producer = client.producer { topics(topic) }
            producer.sendAll(listOf("dead", "later", "slow", "broken").map { Message(topic, it) })
            val seen = List(7) { handled.receive() }.sorted()
            assertEquals(
                listOf("broken 1", "broken 2", "dead 1", "later 1", "later 2", "slow 1", "slow 2"),
                seen,
            )
            consumer.close()
            val letters = client.simpleConsumer(unique("readers")) { subscribe("%DLQ%$group") }
            assertEquals("dead", letters.receive().single().body.decodeToString())
            assertEquals(2, log.lines.size, "${log.lines}")
            assertTrue(log.lines.all { it.startsWith("ERROR a handler failed on message ") }, "${log.lines}")
        }
    }

    @Test
    fun `an error of the virtual machine in a handler does not affect other messages`() = test { client ->
        val topic = unique("errors")
        val handled = Channel<Int>(Channel.UNLIMITED)
        client.pushConsumer(unique("group")) {
            subscribe(topic)
            concurrency = 2
            blockingHandler { delivery ->
                val number = delivery.body.decodeToString().toInt()
                when {
                    delivery.attempt > 1 -> handled.trySend(number)
                    number % 3 == 0 -> throw OutOfMemoryError("as tested")
                    number % 3 == 1 -> throw StackOverflowError("as tested")
                    // An array that no heap has room for.
                    else -> handled.trySend(LongArray(Int.MAX_VALUE - 8).size)
                }
                ConsumeResult.Ack
            }
        }
        client.producer { topics(topic) }.sendAll(List(30) { Message(topic, "$it") })
        assertEquals(List(30) { it }, List(30) { handled.receive() }.sorted())
    }

    @Test
    fun `a close waits for handlers, and cancels those that run longer`() = test { client ->
        val topic = unique("close")
        val producer = client.producer { topics(topic) }
        val running = Channel<Unit>(Channel.UNLIMITED)
        val cancelled = CompletableDeferred<Unit>()
        val release = CompletableDeferred<Unit>()
        val quick = client.pushConsumer(unique("group")) {
            subscribe(topic)
            handler {
                running.send(Unit)
                release.await()
                ConsumeResult.Ack
            }
        }
        val hung = client.pushConsumer(unique("group")) {
            subscribe(topic)
            handler {
                running.send(Unit)
                try {
                    awaitCancellation()
                } finally {
                    cancelled.complete(Unit)
                }
            }
        }
        producer.send(Message(topic, "x"))
        repeat(2) { running.receive() }
        release.complete(Unit)
        assertEquals(0, quick.close(20.seconds).abandoned)
        assertFalse(cancelled.isCompleted)
        assertEquals(1, hung.close(Duration.ZERO).abandoned)
        cancelled.await()
    }

    @Test
    fun `a cancelled close continues, and does not cancel handlers`() = test { client ->
        val topic = unique("continued")
        val running = Channel<Unit>(Channel.UNLIMITED)
        val release = CompletableDeferred<Unit>()
        val ended = Channel<Boolean>(Channel.UNLIMITED)
        suspend fun consumer() =
            client.pushConsumer(unique("group")) {
                subscribe(topic)
                handler {
                    running.send(Unit)
                    ended.send(runCatching { release.await() }.isSuccess)
                    ConsumeResult.Ack
                }
            }
        val consumer = consumer()
        consumer()
        client.producer { topics(topic) }.send(Message(topic, "x"))
        repeat(2) { running.receive() }
        coroutineScope {
            for (close in listOf<suspend () -> Unit>({ consumer.close() }, { client.close() })) {
                launch(start = CoroutineStart.UNDISPATCHED) { close() }.cancelAndJoin()
            }
        }
        release.complete(Unit)
        assertEquals(listOf(true, true), List(2) { ended.receive() })
    }

    @Test
    fun `a close begins no handlers of messages that wait for a thread`() = test { client ->
        val topic = unique("waiting")
        val group = unique("group")
        val count = 4 * Runtime.getRuntime().availableProcessors().coerceAtLeast(2)
        client.producer { topics(topic) }.sendAll(List(count) { Message(topic, "$it") }).forEach { it.getOrThrow() }
        val begun = Channel<String>(Channel.UNLIMITED)
        val release = CountDownLatch(1)
        val consumer = client.pushConsumer(group) {
            subscribe(topic)
            concurrency = count
            // Blocks all threads of its dispatcher, so that other messages wait for one.
            handler { delivery ->
                begun.trySend(delivery.body.decodeToString())
                release.await()
                ConsumeResult.Ack
            }
        }
        val handled = MutableList(count / 4) { begun.receive() }
        val closing = consumer.closeAsync()
        release.countDown()
        assertEquals(0, closing.await().abandoned)
        val other = client.simpleConsumer(group) { subscribe(topic) }
        while (handled.size < count) {
            for (delivery in other.receive()) {
                assertEquals(1, delivery.attempt)
                handled += delivery.body.decodeToString()
            }
        }
        assertEquals(List(count) { "$it" }.sorted(), handled.sorted())
    }

    @Test
    fun `closing the client cancels handlers, and interrupts blocking handlers`() {
        val interrupted = CompletableDeferred<Boolean>()
        test { client ->
            val topic = unique("interrupt")
            val running = Channel<Unit>(Channel.UNLIMITED)
            client.pushConsumer(unique("group")) {
                subscribe(topic)
                blockingHandler {
                    running.trySend(Unit)
                    interrupted.complete(runCatching { CountDownLatch(1).await() }.isFailure)
                    ConsumeResult.Ack
                }
            }
            client.producer { topics(topic) }.send(Message(topic, "x"))
            running.receive()
            client.close(Duration.ZERO)
        }
        kotlinx.coroutines.runBlocking { assertTrue(interrupted.await()) }
    }

    @Test
    fun `a message that arrives during a close does not count as failed`() {
        val arrived = CompletableDeferred<Unit>()
        val closed = CountDownLatch(1)
        val waiting =
            object : Interceptor {
                override fun afterReceive(group: String, deliveries: List<Delivery>?, error: Throwable?) {
                    arrived.complete(Unit)
                    closed.await()
                }
            }
        test({ interceptor(waiting) }) { client ->
            val topic = unique("late")
            val group = unique("group")
            val consumer = client.pushConsumer(group) {
                subscribe(topic)
                handler { ConsumeResult.Ack }
            }
            client.producer { topics(topic) }.send(Message(topic, "x"))
            arrived.await()
            consumer.close(Duration.ZERO)
            closed.countDown()
            val other = client.simpleConsumer(group) { subscribe(topic) }
            assertEquals(1, other.receive().single().attempt)
        }
    }

    @Test
    fun `no handler is called during a pause`() = test { client ->
        val topic = unique("pause")
        val handled = Channel<String>(Channel.UNLIMITED)
        val consumer = client.pushConsumer(unique("group")) {
            subscribe(topic)
            handler { delivery ->
                handled.send(delivery.body.decodeToString())
                ConsumeResult.Ack
            }
        }
        consumer.pause()
        assertTrue(consumer.isPaused)
        // Another group gets the message after it could have been handled.
        val other = client.simpleConsumer(unique("group")) { subscribe(topic) }
        client.producer { topics(topic) }.send(Message(topic, "x"))
        other.ack(other.receive().single())
        assertTrue(handled.tryReceive().isFailure)
        consumer.resume()
        assertFalse(consumer.isPaused)
        assertEquals("x", handled.receive())
    }

    @Test
    fun `subscriptions can be changed at run time`() = test { client ->
        val (one, other) = unique("one") to unique("other")
        val producer = client.producer { topics(one, other) }
        val handled = Channel<String>(Channel.UNLIMITED)
        val consumer = client.pushConsumer(unique("group")) {
            subscribe(one)
            handler { delivery ->
                handled.send(delivery.body.decodeToString())
                ConsumeResult.Ack
            }
        }
        consumer.subscribe(other, Filter.sql("n > 1"))
        consumer.unsubscribe(one)
        assertEquals(mapOf(other to Filter.sql("n > 1")), consumer.subscriptions())
        producer.send(Message(one, "missed"))
        producer.send(Message(other, "received", properties = mapOf("n" to "2")))
        assertEquals("received", handled.receive())
        consumer.unsubscribe(other)
        assertEquals(emptyMap<String, Filter>(), consumer.subscriptions())
    }

    @Test
    fun `a consumer without a handler is refused`() = test { client ->
        val error = runCatching { client.pushConsumer(unique("group")) { subscribe("any") } }.exceptionOrNull()
        assertTrue(error is IllegalArgumentException && "needs a handler" in error.message!!, "$error")
    }

    private class Log : System.Logger {
        val lines = ConcurrentLinkedQueue<String>()

        override fun getName() = "test"

        override fun isLoggable(level: System.Logger.Level) = level >= System.Logger.Level.WARNING

        override fun log(level: System.Logger.Level, bundle: ResourceBundle?, message: String, error: Throwable?) {
            if (isLoggable(level)) lines += "$level $message"
        }

        override fun log(level: System.Logger.Level, bundle: ResourceBundle?, format: String, vararg params: Any?) {
            if (isLoggable(level)) lines += "$level $format"
        }
    }
}
