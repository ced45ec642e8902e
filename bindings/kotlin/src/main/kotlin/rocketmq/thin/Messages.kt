package rocketmq.thin

import java.util.concurrent.CompletableFuture
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.cancel
import kotlinx.coroutines.future.future
import kotlinx.coroutines.isActive
import rocketmq.thin.NativeFunctions.rocketmq_thin_next_delivery
import rocketmq.thin.NativeFunctions.rocketmq_thin_put_back_to_stream
import rocketmq.thin.internal.FetchOptions
import rocketmq.thin.internal.FfiConverterTypeIncomingMessages
import rocketmq.thin.internal.IncomingMessages
import rocketmq.thin.internal.Outcome
import rocketmq.thin.internal.closeStream
import rocketmq.thin.internal.openStream

/** Deliveries that are fetched ahead, for Java: see [SimpleConsumer.messagesAsync]. Close it when no more are needed. */
class Messages
internal constructor(
    /** Not collected as long as this is in use, because that would close it. */
    private val consumer: SimpleConsumer,
    options: FetchOptions,
) : AutoCloseable {
    private val made = Operations.answer<Outcome.Made>(consumer) { openStream(consumer.key, options) }
    private val calls = CoroutineScope(SupervisorJob() + Operations.dispatcher)

    /**
     * The next delivery, or null once this or the consumer is closed. A delivery that arrives after the future was
     * cancelled comes next. It fails with a [RocketMQException] if the server refuses a receive; the next call goes on.
     */
    fun nextAsync(): CompletableFuture<Delivery?> =
        if (calls.isActive) calls.future(start = CoroutineStart.UNDISPATCHED) { next() }
        else CompletableFuture.completedFuture(null)

    /** Cancels the futures that wait, and gives back in the background what was not asked for. */
    override fun close() {
        calls.cancel()
        future { end() }
    }

    internal suspend fun next(): Delivery? =
        consumer
            .receiving {
                val next = Operations.await<Outcome>(this, lost = ::putBack) { rocketmq_thin_next_delivery(made.key) }
                if (next is Outcome.Received) next.messages.map { Delivery(it, next.hold) } else emptyList()
            }
            .firstOrNull()

    private fun putBack(lost: Outcome) =
        lost.putBack(this) { messages, length -> rocketmq_thin_put_back_to_stream(made.key, messages, length) }

    /** Gives back what was not asked for, and waits for that. */
    internal suspend fun end() {
        Operations.await<Outcome.Done>(this) { closeStream(made.key) }
    }
}

/** Returns what was received for a caller that is gone. [native] is the library's function for that. */
internal inline fun Outcome.putBack(owner: Any, native: (ByteArray, Int) -> Unit) {
    if (this is Outcome.Received && messages.isNotEmpty()) {
        val encoded = FfiConverterTypeIncomingMessages.encode(IncomingMessages(messages))
        keeping(owner) { native(encoded.array(), encoded.position()) }
    }
    destroy()
}
