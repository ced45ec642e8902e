package rocketmq.thin

import java.util.concurrent.CompletableFuture
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.cancel
import kotlinx.coroutines.isActive
import rocketmq.thin.NativeFunctions.rocketmq_thin_next_delivery
import rocketmq.thin.NativeFunctions.rocketmq_thin_put_back_to_stream
import rocketmq.thin.internal.FetchOptions
import rocketmq.thin.internal.FfiConverterTypeIncomingMessages
import rocketmq.thin.internal.IncomingMessages
import rocketmq.thin.internal.Outcome
import rocketmq.thin.internal.closeStream
import rocketmq.thin.internal.openStream

/** A stream of deliveries, for Java: see [SimpleConsumer.messagesAsync]. Close it after use. */
class Messages
internal constructor(
    /** Keeps the consumer reachable while the stream is in use. A consumer that is collected is closed. */
    private val consumer: SimpleConsumer,
    options: FetchOptions,
) : AutoCloseable {
    private val registered = Operations.call<Outcome.Registered>(consumer) { openStream(consumer.key, options) }
    private val calls = CoroutineScope(SupervisorJob() + Operations.dispatcher)

    /**
     * Waits for the next delivery. The result is null once the stream or the consumer is closed. A delivery that
     * arrives after the future was cancelled goes to the next call. If the server refuses a receive, the future fails
     * with a [RocketMQException], and the next call continues.
     */
    fun nextAsync(): CompletableFuture<Delivery?> {
        if (!calls.isActive) return CompletableFuture.completedFuture(null)
        var arrived: Outcome? = null
        return future(calls, lost = { arrived?.let(::putBack) }) { next { arrived = it } }
    }

    /** Cancels pending futures. Gives back, in the background, deliveries that were not handed out. */
    override fun close() {
        calls.cancel()
        future { end() }
    }

    /** Waits for the next delivery, and passes the outcome to [arrived], which can put it back. */
    internal suspend fun next(arrived: (Outcome) -> Unit = {}): Delivery? =
        consumer
            .receiving {
                val next =
                    Operations.await<Outcome>(this, lost = ::putBack) { rocketmq_thin_next_delivery(registered.key) }
                arrived(next)
                if (next is Outcome.Received) next.messages.map { Delivery(it, next.guard) } else emptyList()
            }
            .firstOrNull()

    private fun putBack(lost: Outcome) =
        lost.putBack(this) { messages, length -> rocketmq_thin_put_back_to_stream(registered.key, messages, length) }

    /** Gives back deliveries that were not handed out, and waits until that is done. */
    internal suspend fun end() {
        Operations.await<Outcome.Done>(this) { closeStream(registered.key) }
    }
}

/** Gives messages back to [owner], because their caller was cancelled. [native] is the library's function for that. */
internal inline fun Outcome.putBack(owner: Any, native: (ByteArray, Int) -> Unit) {
    if (this is Outcome.Received && messages.isNotEmpty()) {
        val encoded = FfiConverterTypeIncomingMessages.encode(IncomingMessages(messages))
        keepReachable(owner) { native(encoded.array(), encoded.position()) }
    }
    destroy()
}
