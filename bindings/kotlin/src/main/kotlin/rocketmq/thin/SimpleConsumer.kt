package rocketmq.thin

import java.lang.ref.Reference
import java.time.Duration as JavaDuration
import java.util.concurrent.CompletableFuture
import kotlin.time.Duration
import kotlin.time.toJavaDuration
import kotlin.time.toKotlinDuration
import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.withContext
import rocketmq.thin.NativeFunctions.rocketmq_thin_ack
import rocketmq.thin.NativeFunctions.rocketmq_thin_ack_all
import rocketmq.thin.NativeFunctions.rocketmq_thin_change_invisible
import rocketmq.thin.NativeFunctions.rocketmq_thin_put_back
import rocketmq.thin.NativeFunctions.rocketmq_thin_receive
import rocketmq.thin.internal.FfiConverterTypeIncomingMessages
import rocketmq.thin.internal.IncomingMessage
import rocketmq.thin.internal.IncomingMessages
import rocketmq.thin.internal.Outcome
import rocketmq.thin.internal.closeConsumer
import rocketmq.thin.internal.nackDelivery
import rocketmq.thin.internal.unsubscribeTopic

/** Receives messages one call at a time. Created by [Client.simpleConsumer]. */
class SimpleConsumer internal constructor(private val made: Outcome.Made) {
    /**
     * Waits for messages of any subscribed topic. Returns an empty list if none arrives in time. A parameter that is
     * null has its default. If the coroutine is cancelled, the next receive gets what has arrived.
     *
     * @param maxMessages the maximum number of deliveries (32). Servers return at most 32.
     * @param invisibleDuration how long the deliveries are invisible to other consumers (30 s). Servers allow 10 s to
     *   12 h.
     * @param awaitDuration how long to wait for the first message (20 s). Servers wait between 5 s and 20 s.
     * @throws RocketMQException if the server refuses the call or cannot be reached
     */
    suspend fun receive(
        maxMessages: Int? = null,
        invisibleDuration: Duration? = null,
        awaitDuration: Duration? = null,
    ): List<Delivery> {
        maxMessages?.notNegative("maxMessages")
        val invisible = invisibleDuration?.millis("invisibleDuration") ?: DEFAULT.toLong()
        val await = awaitDuration?.millis("awaitDuration") ?: DEFAULT.toLong()
        val received =
            Operations.await<Outcome.Received>(this, lost = { putBack(it) }) {
                rocketmq_thin_receive(made.key, maxMessages ?: DEFAULT, invisible, await)
            }
        return received.messages.map { Delivery(it, received.hold) }
    }

    private fun putBack(lost: Outcome) {
        if (lost is Outcome.Received) putBack(lost.messages)
        lost.destroy()
    }

    /** Leaves messages that nobody processes to the next receive. */
    private fun putBack(messages: List<IncomingMessage>) {
        if (messages.isEmpty()) return
        val encoded = FfiConverterTypeIncomingMessages.encode(IncomingMessages(messages))
        rocketmq_thin_put_back(made.key, encoded.array(), encoded.position())
        Reference.reachabilityFence(this)
    }

    /**
     * Calls [receive] with these arguments repeatedly, until the collection ends or a receive fails. Deliveries that
     * were received but not emitted then go to the next receive.
     */
    fun deliveries(
        maxMessages: Int? = null,
        invisibleDuration: Duration? = null,
        awaitDuration: Duration? = null,
    ): Flow<Delivery> = flow {
        while (true) {
            val received = receive(maxMessages, invisibleDuration, awaitDuration)
            var emitted = 0
            try {
                while (emitted < received.size) emit(received[emitted++])
            } finally {
                putBack(received.drop(emitted).map { it.message })
            }
        }
    }

    /**
     * Acknowledges a delivery.
     *
     * @throws RocketMQException `InvalidReceipt` if its invisible time has expired; the message is delivered again
     */
    suspend fun ack(delivery: Delivery) {
        Operations.await<Outcome.Done>(this to delivery) { rocketmq_thin_ack(made.key, delivery.key) }
    }

    /** Acknowledges several deliveries. The results are in the order of the deliveries. */
    suspend fun ackAll(deliveries: List<Delivery>): List<Result<Unit>> {
        val keys = LongArray(deliveries.size) { deliveries[it].key }
        val settled =
            Operations.await<Outcome.AllSettled>(this to deliveries) {
                rocketmq_thin_ack_all(made.key, keys, keys.size)
            }
        return settled.failures.map {
            if (it == null) Result.success(Unit) else Result.failure(it.toException())
        }
    }

    /**
     * Makes a delivery invisible to other consumers for [invisibleDuration] from now. Zero makes it visible at once.
     *
     * @throws RocketMQException `InvalidReceipt` if its invisible time has expired; `InvalidArgument` above 12 h
     */
    suspend fun changeInvisible(delivery: Delivery, invisibleDuration: Duration) {
        val millis = invisibleDuration.millis("invisibleDuration")
        Operations.await<Outcome.Done>(this to delivery) {
            rocketmq_thin_change_invisible(made.key, delivery.key, millis)
        }
    }

    /** Gives a delivery back. The message is delivered again after [after]. */
    suspend fun nack(delivery: Delivery, after: Duration) {
        val native = after.notNegative("after").toJavaDuration()
        Operations.await<Outcome.Done>(this to delivery) { nackDelivery(made.key, delivery.key, native) }
    }

    /** Stops receiving [topic]. */
    suspend fun unsubscribe(topic: String) {
        Operations.await<Outcome.Done>(this) { unsubscribeTopic(made.key, topic) }
    }

    /** Accepts no more calls, and waits up to [deadline] (20 s) for outstanding acks. */
    suspend fun close(deadline: Duration? = null): CloseReport =
        CloseReport(Operations.await<Outcome.Closed>(this) { closeConsumer(made.key, deadline.toJava("deadline")) })

    /** Runs [block] and then closes the consumer. */
    suspend inline fun <R> use(block: (SimpleConsumer) -> R): R =
        try {
            block(this)
        } finally {
            withContext(NonCancellable) { close() }
        }

    /** [receive] for Java. */
    @JvmOverloads
    fun receiveAsync(
        maxMessages: Int? = null,
        invisibleDuration: JavaDuration? = null,
        awaitDuration: JavaDuration? = null,
    ): CompletableFuture<List<Delivery>> = future {
        receive(maxMessages, invisibleDuration?.toKotlinDuration(), awaitDuration?.toKotlinDuration())
    }

    /** [ack] for Java. */
    fun ackAsync(delivery: Delivery): CompletableFuture<Unit> = future { ack(delivery) }

    /** [ackAll] for Java. The futures in the list are completed, those that failed with a [RocketMQException]. */
    fun ackAllAsync(deliveries: List<Delivery>): CompletableFuture<List<CompletableFuture<Unit>>> =
        future { ackAll(deliveries).map { it.toFuture() } }

    /** [changeInvisible] for Java. */
    fun changeInvisibleAsync(delivery: Delivery, invisibleDuration: JavaDuration): CompletableFuture<Unit> =
        future { changeInvisible(delivery, invisibleDuration.toKotlinDuration()) }

    /** [nack] for Java. */
    fun nackAsync(delivery: Delivery, after: JavaDuration): CompletableFuture<Unit> =
        future { nack(delivery, after.toKotlinDuration()) }

    /** [unsubscribe] for Java. */
    fun unsubscribeAsync(topic: String): CompletableFuture<Unit> = future { unsubscribe(topic) }

    /** [close] for Java. */
    @JvmOverloads
    fun closeAsync(deadline: JavaDuration? = null): CompletableFuture<CloseReport> =
        future { close(deadline?.toKotlinDuration()) }

    private companion object {
        /** Selects the core's default where null cannot be passed. */
        const val DEFAULT = -1

        fun Duration.millis(argument: String): Long = notNegative(argument).inWholeMilliseconds
    }
}
