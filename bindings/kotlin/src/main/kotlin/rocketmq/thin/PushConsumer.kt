package rocketmq.thin

import java.time.Duration as JavaDuration
import java.util.concurrent.CompletableFuture
import kotlin.time.Duration
import kotlin.time.toKotlinDuration
import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.withContext
import rocketmq.thin.internal.ConsumerKey
import rocketmq.thin.internal.Outcome
import rocketmq.thin.internal.closePushConsumer
import rocketmq.thin.internal.isConsumerPaused
import rocketmq.thin.internal.pauseConsumer
import rocketmq.thin.internal.resumeConsumer

/**
 * Calls a handler for many messages at a time, and renews their leases while it runs. Created by [Client.pushConsumer].
 *
 * It runs until it or its client is closed. If both become unreachable, it ends with a warning. Its threads do not keep
 * the JVM running.
 */
class PushConsumer
internal constructor(
    private val registered: Outcome.Registered,
    private val group: String,
    private val endpoints: String,
    private val handlerRunner: HandlerRunner,
    /** The push consumers of the client that are not closed. */
    private val openConsumers: MutableSet<PushConsumer>,
) : Consumer(ConsumerKey.Push(registered.key)) {
    init {
        openConsumers += this
    }

    /** Whether the consumer is paused. */
    val isPaused: Boolean
        get() = keepReachable(this) { isConsumerPaused(registered.key) }

    /**
     * Calls no handlers, and receives nothing, until [resume]. Running handlers continue. Messages that wait for a
     * handler stay in the client, and their leases are renewed: other members of the group do not get them. A close
     * gives them back.
     */
    fun pause() {
        Operations.call<Outcome.Done>(this) { pauseConsumer(registered.key) }
    }

    /** Resumes receiving and handling after a [pause]. */
    fun resume() {
        Operations.call<Outcome.Done>(this) { resumeConsumer(registered.key) }
    }

    /**
     * Gives back messages that no handler has begun, waits up to [deadline] (20 s) for running handlers, and cancels
     * handlers that run longer: their messages are delivered again. A handler must not wait for the close of its own
     * consumer, which waits for the handler. If the caller is cancelled, the close continues.
     */
    suspend fun close(deadline: Duration? = null): CloseReport {
        val native = deadline.toJava("deadline")
        return uncancelled {
            try {
                stopBeginning()
                CloseReport(Operations.await<Outcome.Closed>(this) { closePushConsumer(registered.key, native) })
            } finally {
                stop()
            }
        }
    }

    /** Begins no more handlers. */
    internal fun stopBeginning() = handlerRunner.stopBeginning()

    /** Cancels the handlers. */
    internal fun stop() {
        openConsumers -= this
        handlerRunner.cancel()
    }

    /** Runs [block] and then closes the consumer. */
    suspend inline fun <R> use(block: (PushConsumer) -> R): R =
        try {
            block(this)
        } finally {
            withContext(NonCancellable) { close() }
        }

    override fun toString() = "PushConsumer($group, $endpoints)"

    /** [close] for Java. */
    @JvmOverloads
    fun closeAsync(deadline: JavaDuration? = null): CompletableFuture<CloseReport> =
        future { close(deadline?.toKotlinDuration()) }
}
