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

/** What interceptors, the logger and OpenTelemetry see of calls. */
class ObserversTest {
    private val receipt = Receipt("id", "orders", 0, "")

    @Test
    fun `of several interceptors the first is outermost, and each sees what the one before it has added`() {
        val told = mutableListOf<String>()
        class Naming(val name: String) : Interceptor {
            override fun beforeSend(message: Message) = message.property(name, "${told.size}").also { told += name }

            override fun afterSend(message: Message, receipt: Receipt?, error: Throwable?) {
                told += "$name ${message.properties} ${receipt?.messageId}"
            }
        }
        val observers = Observers(null, listOf(Naming("a"), Naming("b")))
        runBlocking { observers.sending(Message("orders", "x")) { receipt } }
        val sent = "{a=0, b=1}"
        assertEquals(listOf("a", "b", "b $sent id", "a $sent id"), told)
    }

    @Test
    fun `an interceptor that throws is logged, and the call goes on`() {
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
    fun `an interceptor is told of failures, which stay the same`() {
        val told = mutableListOf<Throwable?>()
        val watching =
            object : Interceptor {
                override fun afterReceive(group: String, deliveries: List<Delivery>?, error: Throwable?) {
                    told += error
                }
            }
        val failure = IllegalStateException()
        val caught = runCatching {
            runBlocking { Observers(null, listOf(watching)).receiving("billing") { throw failure } }
        }
        assertSame(failure, caught.exceptionOrNull())
        assertEquals(listOf<Throwable?>(failure), told)
    }

    @Test
    fun `a message carries the trace that is active, unless it has one`() {
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
    fun `the trace of a delivery is active wherever its coroutine runs`() {
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

/** Remembers what is logged. */
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
