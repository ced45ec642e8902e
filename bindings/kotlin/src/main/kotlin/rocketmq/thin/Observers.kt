package rocketmq.thin

import java.lang.System.Logger.Level
import kotlin.coroutines.CoroutineContext
import kotlin.coroutines.EmptyCoroutineContext

/**
 * Calls the application's logger, interceptors and OpenTelemetry. Their exceptions are caught here, so that they have
 * no effect on a call.
 */
internal class Observers(val logger: System.Logger?, private val interceptors: List<Interceptor>) {
    private val tracing = Tracing.present

    /** Whether there are interceptors. */
    val intercepting
        get() = interceptors.isNotEmpty()

    /** Logs a message, if the application has a logger. */
    fun log(level: Level, message: String, error: Throwable? = null) {
        // A failure of the logger cannot be logged.
        runCatching { logger?.log(level, message, error) }
    }

    /** Sends [message] with [send], after adding the active trace context and the changes of interceptors. */
    suspend inline fun sending(message: Message, send: (Message) -> Receipt): Receipt {
        val sent = prepare(message)
        return observe({ send(sent) }) { receipt, error -> afterSend(sent, receipt, error) }
    }

    /** As [sending], for several messages. */
    suspend inline fun sendingAll(
        messages: List<Message>,
        send: (List<Message>) -> List<Result<Receipt>>,
    ): List<Result<Receipt>> {
        val sent = messages.map { prepare(it) }
        return observeAll(sent, { send(sent) }) { message, receipt, error -> afterSend(message, receipt, error) }
    }

    /** Receives with [receive], and calls interceptors. */
    suspend inline fun receiving(group: String, receive: () -> List<Delivery>): List<Delivery> {
        before { beforeReceive(group) }
        return observe(receive) { deliveries, error -> afterReceive(group, deliveries, error) }
    }

    /** Settles [delivery] with [settle], and calls interceptors. */
    suspend inline fun settling(group: String, delivery: Delivery, settlement: Settlement, settle: () -> Unit) {
        before { beforeSettle(group, delivery, settlement) }
        observe(settle) { _, error -> afterSettle(group, delivery, settlement, error) }
    }

    /** As [settling], for several deliveries. */
    suspend inline fun settlingAll(
        group: String,
        deliveries: List<Delivery>,
        settlement: Settlement,
        settle: () -> List<Result<Unit>>,
    ): List<Result<Unit>> {
        deliveries.forEach { before { beforeSettle(group, it, settlement) } }
        return observeAll(deliveries, settle) { delivery, _, error -> afterSettle(group, delivery, settlement, error) }
    }

    /** Returns the coroutine context in which the trace context of [delivery] is active. */
    fun traceOf(delivery: Delivery): CoroutineContext {
        val parent = delivery.traceParent
        if (tracing == null || parent == null) return EmptyCoroutineContext
        return logFailure("failed to read the trace context of a message") {
            tracing.extract(delivery.properties + (Tracing.PARENT to parent))
        } ?: EmptyCoroutineContext
    }

    private fun prepare(message: Message): Message {
        val traced = if (tracing == null) message else withTrace(tracing, message)
        return interceptors.fold(traced) { changed, interceptor ->
            logFailure(INTERCEPTOR_FAILED) { interceptor.beforeSend(changed) } ?: changed
        }
    }

    private fun withTrace(tracing: Tracing, message: Message): Message {
        val trace =
            logFailure("failed to add the trace context to a message") { tracing.inject() }.orEmpty()
        // A value that the application has set itself takes precedence.
        return if (trace.isEmpty()) message else message.copy(trace + message.properties) {}
    }

    private inline fun <T> observe(call: () -> T, action: Interceptor.(T?, Throwable?) -> Unit): T {
        if (interceptors.isEmpty()) return call()
        val result = runCatching(call)
        after { action(result.getOrNull(), result.exceptionOrNull()) }
        return result.getOrThrow()
    }

    /** As [observe], for each of [items]. If the call fails as a whole, each of them has that failure. */
    private inline fun <I, T> observeAll(
        items: List<I>,
        call: () -> List<Result<T>>,
        action: Interceptor.(I, T?, Throwable?) -> Unit,
    ): List<Result<T>> {
        val results = runCatching(call)
        items.forEachIndexed { index, item ->
            val result = results.fold({ it[index] }, { Result.failure(it) })
            after { action(item, result.getOrNull(), result.exceptionOrNull()) }
        }
        return results.getOrThrow()
    }

    /** Calls the interceptors in order. */
    private inline fun before(action: Interceptor.() -> Unit) =
        interceptors.forEach { logFailure(INTERCEPTOR_FAILED) { it.action() } }

    /** Calls the interceptors in reverse order. */
    private inline fun after(action: Interceptor.() -> Unit) =
        interceptors.asReversed().forEach { logFailure(INTERCEPTOR_FAILED) { it.action() } }

    /** Returns the result of [call]. If it throws, logs [failure] and returns null. */
    private inline fun <T> logFailure(failure: String, call: () -> T): T? =
        try {
            call()
        } catch (e: Throwable) {
            log(Level.WARNING, failure, e)
            null
        }

    private companion object {
        const val INTERCEPTOR_FAILED = "an interceptor failed"
    }
}
