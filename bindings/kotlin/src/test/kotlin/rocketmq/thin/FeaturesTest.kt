package rocketmq.thin

import java.util.concurrent.atomic.AtomicInteger
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.awaitCancellation
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertSame
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

/** Health, metrics, credentials and transactions. */
class FeaturesTest : MergedTest() {
    @Test
    fun `the status is a flow that ends when the client is closed`() = runBlocking {
        val client = Client.connect(proxy.endpoint)
        val health = client.health()
        assertEquals(Status.Connected, health.status)
        assertNull(health.error)
        assertEquals(listOf(proxy.endpoint), health.endpoints.map { it.endpoint })
        assertEquals(Status.Connected, client.statusChanges().first().status)

        val first = CompletableDeferred<Unit>()
        val statuses = mutableListOf<Status>()
        val collecting = launch {
            client.statusChanges().collect {
                statuses += it.status
                first.complete(Unit)
            }
        }
        first.await()
        client.close()
        collecting.join()
        assertEquals(listOf(Status.Connected, Status.Closed), statuses)
        assertEquals(listOf(Status.Closed), client.statusChanges().toList().map { it.status }.distinct())
    }

    @Test
    fun `metrics are plain values`() = test { client ->
        val topic = unique("counted")
        client.producer { topics(topic) }.send(Message(topic, "x"))
        val point = client.metrics()["rocketmq_send_cost_time"]!!.points.single()
        assertEquals(topic, point.labels["topic"])
        val histogram = point.value as MetricValue.Histogram
        assertEquals(1, histogram.count)
        assertEquals(histogram.bounds.size + 1, histogram.counts.size)
        assertNull(client.metrics()["unknown"])
    }

    @Test
    fun `a credentials provider is called before connecting, and its failure fails the connect`() = runBlocking {
        val failing = runCatching {
            Client.connect(proxy.endpoint) { credentialsProvider { error("no credentials today") } }
        }
        val failure = failing.exceptionOrNull()
        assertTrue(failure is RocketMQException.Unauthenticated, "$failure")
        assertTrue("no credentials today" in failure!!.message!!, failure.message)

        val calls = AtomicInteger()
        val provider: suspend () -> Credentials = {
            calls.incrementAndGet()
            Credentials("reader", "s3cret")
        }
        Client.connect(proxy.endpoint) { credentialsProvider(provider) }.use { it.producer() }
        assertEquals(1, calls.get())
    }

    @Test
    fun `the failure of a credentials provider may have a text that cannot be encoded, or none`() = runBlocking {
        class Silent : RuntimeException() {
            override val message
                get() = throw IllegalStateException("no text")
        }
        for (thrown in listOf(IllegalStateException("\uD800 is half a character"), Silent())) {
            val failure = runCatching {
                Client.connect(proxy.endpoint) { credentialsProvider { throw thrown } }
            }.exceptionOrNull()
            assertTrue(failure is RocketMQException.Unauthenticated, "$failure")
        }
    }

    @Test
    fun `a provider that hangs is cancelled with the connect`() = runBlocking {
        val asked = CompletableDeferred<Unit>()
        val ended = CompletableDeferred<Unit>()
        val connecting = launch {
            Client.connect(proxy.endpoint) {
                credentialsProvider {
                    asked.complete(Unit)
                    try {
                        awaitCancellation()
                    } finally {
                        ended.complete(Unit)
                    }
                }
            }
        }
        asked.await()
        connecting.cancelAndJoin()
        ended.await()
    }

    @Test
    fun `the logger logs each status`() = runBlocking {
        val logging = RecordingLogger()
        Client.connect(proxy.endpoint) { logger = logging }.close()
        while (logging.next() != "INFO the client is closed null") continue
    }

    @Test
    fun `a transaction is committed when its block returns`() = test { client ->
        val producer = client.producer()
        val transaction = producer.transaction { this }
        assertDecided(transaction)
    }

    @Test
    fun `a transaction is rolled back when its block throws or is cancelled`() = test { client ->
        val producer = client.producer()
        val failure = IllegalStateException()
        lateinit var transaction: Transaction
        val thrown = runCatching {
            producer.transaction<Unit> {
                transaction = this
                throw failure
            }
        }
        assertSame(failure, thrown.exceptionOrNull())
        assertEquals(0, failure.suppressed.size)
        assertDecided(transaction)

        runBlocking {
            val begun = CompletableDeferred<Transaction>()
            val job = launch {
                producer.transaction {
                    begun.complete(this)
                    awaitCancellation()
                }
            }
            val cancelled = begun.await()
            job.cancel(CancellationException("enough"))
            job.join()
            assertDecided(cancelled)
        }
    }

    @Test
    fun `a block may decide about its transaction itself`() = test { client ->
        val transaction =
            client.producer().transaction {
                rollback()
                this
            }
        assertDecided(transaction)
    }

    private suspend fun assertDecided(transaction: Transaction) {
        val again = runCatching { transaction.commit() }.exceptionOrNull()
        assertTrue(again is RocketMQException.InvalidArgument, "$again")
    }

    @Test
    fun `a producer with a checker closes at once`() = test { client ->
        val producer = client.producer { checker { Decision.Unknown } }
        assertEquals(0, producer.close().abandoned)
        val late = runCatching { producer.begin() }.exceptionOrNull()
        assertTrue(late is RocketMQException.Closed, "$late")
    }

    @Test
    fun `a message that is not delayed cannot be recalled`() = test { client ->
        val topic = unique("prompt")
        val producer = client.producer { topics(topic) }
        val receipt = producer.send(Message(topic, "x"))
        val failure = runCatching { producer.recall(receipt) }.exceptionOrNull()
        assertTrue(failure is RocketMQException.InvalidArgument, "$failure")
    }
}
