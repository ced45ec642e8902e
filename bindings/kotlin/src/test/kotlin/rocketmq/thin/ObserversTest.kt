package rocketmq.thin

import io.opentelemetry.api.trace.Span
import io.opentelemetry.api.trace.SpanContext
import io.opentelemetry.api.trace.TraceFlags
import io.opentelemetry.api.trace.TraceState
import java.util.ResourceBundle
import java.util.concurrent.LinkedBlockingQueue
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withContext
import kotlinx.coroutines.yield
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertSame
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

/** Calls of interceptors, the logger and OpenTelemetry. */
class ObserversTest {
    private val receipt = Receipt("id", "orders", 0, "")

    @Test
    fun `interceptors are called in order before a send, and in reverse order after it`() {
        val calls = mutableListOf<String>()
        class Naming(val name: String) : Interceptor {
            override fun beforeSend(message: Message) = message.property(name, "${calls.size}").also { calls += name }

            override fun afterSend(message: Message, receipt: Receipt?, error: Throwable?) {
                calls += "$name ${message.properties} ${receipt?.messageId}"
            }
        }
        val observers = Observers(null, listOf(Naming("a"), Naming("b")))
        runBlocking { observers.sending(Message("orders", "x")) { receipt } }
        val sent = "{a=0, b=1}"
        assertEquals(listOf("a", "b", "b $sent id", "a $sent id"), calls)
    }

    @Test
    fun `the exception of an interceptor is logged, and does not affect the call`() {
        val logger = RecordingLogger()
        val failing =
            object : Interceptor {
                override fun beforeSend(message: Message): Message = throw IllegalStateException("mine")

                override fun afterSend(message: Message, receipt: Receipt?, error: Throwable?): Unit = TODO()
            }
        val sent = runBlocking { Observers(logger, listOf(failing)).sending(Message("orders", "x")) { receipt } }
        assertSame(receipt, sent)
        assertEquals("WARNING an interceptor failed java.lang.IllegalStateException: mine", logger.next())
        assertTrue("NotImplementedError" in logger.next())
    }

    @Test
    fun `interceptors get the exception of a call, which is not changed`() {
        val calls = mutableListOf<Throwable?>()
        val watching =
            object : Interceptor {
                override fun afterReceive(group: String, deliveries: List<Delivery>?, error: Throwable?) {
                    calls += error
                }
            }
        val failure = IllegalStateException()
        val caught = runCatching {
            runBlocking { Observers(null, listOf(watching)).receiving("billing") { throw failure } }
        }
        assertSame(failure, caught.exceptionOrNull())
        assertEquals(listOf<Throwable?>(failure), calls)
    }

    @Test
    fun `interceptors get the exception of a call for each of its messages and deliveries`() {
        val calls = mutableListOf<String>()
        val watching =
            object : Interceptor {
                override fun afterSend(message: Message, receipt: Receipt?, error: Throwable?) {
                    calls += "${message.topic} ${error?.message}"
                }
            }
        val observers = Observers(null, listOf(watching))
        val caught = runCatching {
            runBlocking { observers.sendingAll(listOf(Message("a", "x"), Message("b", "x"))) { error("refused") } }
        }
        assertEquals("refused", caught.exceptionOrNull()?.message)
        assertEquals(listOf("a refused", "b refused"), calls)
    }

    @Test
    fun `a message gets the active trace context, unless it already has one`() {
        val context = SpanContext.create(TRACE, SPAN, TraceFlags.getSampled(), TraceState.getDefault())
        val observers = Observers(null, emptyList())
        val sent = mutableListOf<Message>()
        val send = { message: Message ->
            runBlocking { observers.sending(message) { receipt.apply { sent += it } } }
        }
        Span.wrap(context).makeCurrent().use {
            send(Message("orders", "x").priority(1))
            send(Message("orders", "x").property("traceparent", "mine"))
        }
        send(Message("orders", "x"))
        assertEquals(listOf(PARENT, "mine", null), sent.map { it.properties["traceparent"] })
        assertEquals(1, sent[0].priority)
    }

    @Test
    fun `the trace of a delivery is active on each thread that its coroutine runs on`() {
        val trace = Tracing.present!!.extract(mapOf("traceparent" to PARENT))
        runBlocking(trace) {
            assertEquals(TRACE, Span.current().spanContext.traceId)
            withContext(Dispatchers.Default) {
                yield()
                assertEquals(TRACE, Span.current().spanContext.traceId)
            }
        }
        assertFalse(Span.current().spanContext.isValid)
    }

    private companion object {
        const val TRACE = "0af7651916cd43dd8448eb211c80319c"
        const val SPAN = "b7ad6b7169203331"
        const val PARENT = "00-$TRACE-$SPAN-01"
    }
}

/** A logger that records its lines. */
class RecordingLogger : System.Logger {
    private val lines = LinkedBlockingQueue<String>()

    /** Waits for the next line. */
    fun next(): String = lines.take()

    override fun getName() = "test"

    override fun isLoggable(level: System.Logger.Level) = true

    override fun log(level: System.Logger.Level, bundle: ResourceBundle?, message: String?, thrown: Throwable?) {
        lines += "$level $message $thrown"
    }

    override fun log(level: System.Logger.Level, bundle: ResourceBundle?, format: String?, vararg values: Any?) {
        lines += "$level $format"
    }
}
