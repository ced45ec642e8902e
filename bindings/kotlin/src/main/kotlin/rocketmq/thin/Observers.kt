package rocketmq.thin

import java.lang.System.Logger.Level
import kotlin.coroutines.CoroutineContext
import kotlin.coroutines.EmptyCoroutineContext

/**
 * The application's logger, interceptors and OpenTelemetry. What they throw is caught here, so that it has no effect on a
 * call.
 */
internal class Observers(val logger: System.Logger?, private val interceptors: List<Interceptor>) {
    private val tracing = Tracing.present

    /** Logs a message, if the application has a logger. */
    fun log(level: Level, message: String, error: Throwable? = null) {
        // If the logger throws, there is nowhere left to report it.
        runCatching { logger?.log(level, message, error) }
    }

    /** Sends with [send] the message with the trace that is active, and with what interceptors have changed. */
    suspend inline fun sending(message: Message, send: (Message) -> Receipt): Receipt {
        val sent = outgoing(message)
        return told({ send(sent) }) { receipt, error -> afterSend(sent, receipt, error) }
    }

    /** The same for several messages. */
    suspend inline fun sendingAll(
        messages: List<Message>,
        send: (List<Message>) -> List<Result<Receipt>>,
    ): List<Result<Receipt>> {
        val sent = messages.map { outgoing(it) }
        val results = send(sent)
        results.forEachIndexed { index, result ->
            after { afterSend(sent[index], result.getOrNull(), result.exceptionOrNull()) }
        }
        return results
    }

    /** Receives with [receive]. */
    suspend inline fun receiving(group: String, receive: () -> List<Delivery>): List<Delivery> {
        before { beforeReceive(group) }
        return told(receive) { deliveries, error -> afterReceive(group, deliveries, error) }
    }

    /** Settles [delivery] with [settle]. */
    suspend inline fun settling(group: String, delivery: Delivery, settlement: Settlement, settle: () -> Unit) {
        before { beforeSettle(group, delivery, settlement) }
        told(settle) { _, error -> afterSettle(group, delivery, settlement, error) }
    }

    /** Settles several deliveries with [settle]. */
    suspend inline fun settlingAll(
        group: String,
        deliveries: List<Delivery>,
        settlement: Settlement,
        settle: () -> List<Result<Unit>>,
    ): List<Result<Unit>> {
        deliveries.forEach { before { beforeSettle(group, it, settlement) } }
        val results = settle()
        results.forEachIndexed { index, result ->
            after { afterSettle(group, deliveries[index], settlement, result.exceptionOrNull()) }
        }
        return results
    }

    /** A message of a push consumer whose handler has ended. Its settlement has no outcome here. */
    fun handled(group: String, delivery: Delivery, settlement: Settlement) =
        before { beforeSettle(group, delivery, settlement) }

    /** The coroutine context in which the trace that [delivery] continues is active. */
    fun traceOf(delivery: Delivery): CoroutineContext {
        val parent = delivery.traceParent
        if (tracing == null || parent == null) return EmptyCoroutineContext
        return undisturbed("the trace context of a message could not be read") {
            tracing.extract(delivery.properties + (Tracing.PARENT to parent))
        } ?: EmptyCoroutineContext
    }

    private fun outgoing(message: Message): Message {
        val traced = if (tracing == null) message else traced(tracing, message)
        return interceptors.fold(traced) { changed, interceptor ->
            undisturbed(FAILED) { interceptor.beforeSend(changed) } ?: changed
        }
    }

    private fun traced(tracing: Tracing, message: Message): Message {
        val trace =
            undisturbed("the trace context could not be added to a message") { tracing.inject() }.orEmpty()
        // A value that the application has set itself takes precedence.
        return if (trace.isEmpty()) message else message.copy(trace + message.properties) {}
    }

    private inline fun <T> told(call: () -> T, tell: Interceptor.(T?, Throwable?) -> Unit): T {
        if (interceptors.isEmpty()) return call()
        val result = runCatching(call)
        after { tell(result.getOrNull(), result.exceptionOrNull()) }
        return result.getOrThrow()
    }

    /** Of several interceptors, the first is told first before an operation. */
    private inline fun before(tell: Interceptor.() -> Unit) =
        interceptors.forEach { undisturbed(FAILED) { it.tell() } }

    /** And last after it. */
    private inline fun after(tell: Interceptor.() -> Unit) =
        interceptors.asReversed().forEach { undisturbed(FAILED) { it.tell() } }

    private inline fun <T> undisturbed(failure: String, call: () -> T): T? =
        try {
            call()
        } catch (e: Throwable) {
            log(Level.WARNING, failure, e)
            null
        }

    private companion object {
        const val FAILED = "an interceptor failed"
    }
}
