package rocketmq.thin

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
import rocketmq.thin.NativeFunctions.rocketmq_thin_receive
import rocketmq.thin.internal.Outcome
import rocketmq.thin.internal.closeConsumer

/** Receives messages one call at a time; made by [Client.simpleConsumer]. */
class SimpleConsumer internal constructor(private val made: Outcome.Made) {
    /**
     * Waits for messages of any subscribed topic; none in time is an empty list. What is left null has the
     * client's default.
     *
     * @param maxMessages the most deliveries (32); servers give at most 32
     * @param invisibleDuration how long they are hidden from others before they come again (30 s)
     * @param awaitDuration how long to wait for the first message (20 s)
     * @throws RocketMQException the server's refusal, or what kept an answer from coming
     */
    suspend fun receive(
        maxMessages: Int? = null,
        invisibleDuration: Duration? = null,
        awaitDuration: Duration? = null,
    ): List<Delivery> {
        require(maxMessages == null || maxMessages >= 0) { "maxMessages is negative" }
        val received =
            Operations.await<Outcome.Received>(this) {
                val invisible = invisibleDuration?.millis() ?: DEFAULT.toLong()
                val await = awaitDuration?.millis() ?: DEFAULT.toLong()
                rocketmq_thin_receive(made.key, maxMessages ?: DEFAULT, invisible, await)
            }
        return received.messages.map { Delivery(it, received.hold) }
    }

    /**
     * Receives again and again, as [receive] does with these arguments, until the collector has enough or a
     * receive fails.
     */
    fun deliveries(
        maxMessages: Int? = null,
        invisibleDuration: Duration? = null,
        awaitDuration: Duration? = null,
    ): Flow<Delivery> = flow {
        while (true) receive(maxMessages, invisibleDuration, awaitDuration).forEach { emit(it) }
    }

    /**
     * Tells the server that a delivery is done with.
     *
     * @throws RocketMQException `InvalidReceipt` when the lease is over: the message comes, or came, again
     */
    suspend fun ack(delivery: Delivery) {
        Operations.await<Outcome.Done>(this to delivery) { rocketmq_thin_ack(made.key, delivery.key) }
    }

    /** Acks many; the results stand in the order of the deliveries. */
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
     * Hides a delivery from others for [invisibleDuration] from now; zero gives it back at once.
     *
     * @throws RocketMQException `InvalidReceipt` when the lease is over; `InvalidArgument` above 12 h
     */
    suspend fun changeInvisible(delivery: Delivery, invisibleDuration: Duration) {
        val millis = invisibleDuration.millis()
        Operations.await<Outcome.Done>(this to delivery) {
            rocketmq_thin_change_invisible(made.key, delivery.key, millis)
        }
    }

    /** Takes no more calls, and waits at most [deadline] (20 s) for acks under way. */
    suspend fun close(deadline: Duration? = null): CloseReport =
        CloseReport(Operations.await<Outcome.Closed>(this) { closeConsumer(made.key, deadline?.toJavaDuration()) })

    /** Runs [block], then closes. */
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

    /** [ackAll] for Java: the futures in the list are done, each well or with a [RocketMQException]. */
    fun ackAllAsync(deliveries: List<Delivery>): CompletableFuture<List<CompletableFuture<Unit>>> =
        future { ackAll(deliveries).map { it.toFuture() } }

    /** [changeInvisible] for Java. */
    fun changeInvisibleAsync(delivery: Delivery, invisibleDuration: JavaDuration): CompletableFuture<Unit> =
        future { changeInvisible(delivery, invisibleDuration.toKotlinDuration()) }

    /** [close] for Java. */
    @JvmOverloads
    fun closeAsync(deadline: JavaDuration? = null): CompletableFuture<CloseReport> =
        future { close(deadline?.toKotlinDuration()) }

    private companion object {
        /** Stands for the core's default where null cannot be passed. */
        const val DEFAULT = -1

        fun Duration.millis(): Long = inWholeMilliseconds.also { require(it >= 0) { "the duration is negative" } }
    }
}
