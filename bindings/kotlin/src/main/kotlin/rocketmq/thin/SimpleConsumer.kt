package rocketmq.thin

import java.time.Duration as JavaDuration
import java.util.concurrent.CompletableFuture
import kotlin.time.Duration
import kotlin.time.toJavaDuration
import kotlin.time.toKotlinDuration
import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.currentCoroutineContext
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.isActive
import kotlinx.coroutines.withContext
import rocketmq.thin.NativeFunctions.rocketmq_thin_ack
import rocketmq.thin.NativeFunctions.rocketmq_thin_ack_all
import rocketmq.thin.NativeFunctions.rocketmq_thin_change_invisible
import rocketmq.thin.NativeFunctions.rocketmq_thin_put_back
import rocketmq.thin.NativeFunctions.rocketmq_thin_receive
import rocketmq.thin.internal.ConsumerKey
import rocketmq.thin.internal.FetchOptions
import rocketmq.thin.internal.Outcome
import rocketmq.thin.internal.closeConsumer
import rocketmq.thin.internal.deadLetterDelivery
import rocketmq.thin.internal.keepDeliveryLease
import rocketmq.thin.internal.nackDelivery

/** Receives messages one call at a time, or as a flow. Created by [Client.simpleConsumer]. */
class SimpleConsumer
internal constructor(
    private val registered: Outcome.Registered,
    private val group: String,
    private val endpoints: String,
    private val observers: Observers,
) : Consumer(ConsumerKey.Simple(registered.key)) {
    internal val key get() = registered.key

    /**
     * Waits for messages of any subscribed topic. Returns an empty list if no message arrives in time. Parameters that
     * are null have their defaults. If the coroutine is cancelled, messages that have arrived go to the next receive or
     * collection of [messages].
     *
     * @param maxMessages the maximum number of deliveries, 1 or more (32). Servers return at most 32.
     * @param invisibleDuration how long the deliveries are invisible to other consumers (30 s). Servers accept 10 s
     *   to 12 h.
     * @param awaitDuration how long to wait for the first message (20 s). With zero, the receive returns messages that
     *   have already arrived, and later messages go to a later receive.
     * @throws RocketMQException if the server refuses the call or cannot be reached
     */
    suspend fun receive(
        maxMessages: Int? = null,
        invisibleDuration: Duration? = null,
        awaitDuration: Duration? = null,
    ): List<Delivery> = receive(maxMessages, invisibleDuration, awaitDuration) {}

    /** As [receive], and passes the received messages to [arrived], which can put them back. */
    private suspend fun receive(
        maxMessages: Int?,
        invisibleDuration: Duration?,
        awaitDuration: Duration?,
        arrived: (Outcome.Received) -> Unit,
    ): List<Delivery> {
        maxMessages?.notNegative("maxMessages")
        val invisible = invisibleDuration?.nanos("invisibleDuration") ?: DEFAULT.toLong()
        val await = awaitDuration?.nanos("awaitDuration") ?: DEFAULT.toLong()
        return receiving {
            val received =
                Operations.await<Outcome.Received>(this, lost = ::putBack) {
                    rocketmq_thin_receive(registered.key, maxMessages ?: DEFAULT, invisible, await)
                }
            arrived(received)
            received.messages.map { Delivery(it, received.guard) }
        }
    }

    internal suspend inline fun receiving(receive: () -> List<Delivery>): List<Delivery> =
        observers.receiving(group, receive)

    private fun putBack(lost: Outcome) =
        lost.putBack(this) { messages, length -> rocketmq_thin_put_back(registered.key, messages, length) }

    /**
     * Fetches messages ahead, and emits one at a time until the consumer is closed. Parameters that are null have their
     * defaults. The leases of waiting messages are renewed. Receives and other collections share the fetched messages.
     *
     * A collection that ends earlier, as with `first()` or `take(5)`, gives back messages that were not emitted. A
     * cancelled collection does that in the background.
     *
     * @param maxMessages the maximum number of messages that wait (128)
     * @param maxBytes the maximum size of their bodies, in bytes (64 MiB). Above it, fetching pauses.
     * @param invisibleDuration how long deliveries are invisible to other consumers (30 s). At least half of it is left
     *   when a delivery is emitted. Servers accept 10 s to 12 h.
     * @throws RocketMQException from the collection, if the server refuses a receive
     */
    fun messages(maxMessages: Int? = null, maxBytes: Long? = null, invisibleDuration: Duration? = null): Flow<Delivery> {
        val options = fetchOptions(maxMessages, maxBytes, invisibleDuration)
        return flow {
            val messages = Messages(this@SimpleConsumer, options)
            try {
                while (true) emit(messages.next() ?: break)
            } finally {
                // A cancelled collector does not wait for the server.
                if (currentCoroutineContext().isActive) messages.end() else messages.close()
            }
        }
    }

    /**
     * Acknowledges a delivery.
     *
     * @throws RocketMQException `InvalidReceipt` if its invisible time has expired; the message is delivered again
     */
    suspend fun ack(delivery: Delivery) {
        settle(delivery, Settlement.Ack) { rocketmq_thin_ack(registered.key, delivery.key) }
    }

    /** Acknowledges several deliveries. The results are in the order of the deliveries. */
    suspend fun ackAll(deliveries: List<Delivery>): List<Result<Unit>> =
        observers.settlingAll(group, deliveries, Settlement.Ack) {
            val keys = LongArray(deliveries.size) { deliveries[it].key }
            val settled =
                Operations.await<Outcome.AllSettled>(this to deliveries) {
                    rocketmq_thin_ack_all(registered.key, keys, keys.size)
                }
            settled.failures.map { if (it == null) Result.success(Unit) else Result.failure(it.toException()) }
        }

    /**
     * Makes a delivery invisible to other consumers for [invisibleDuration] from now. Zero makes it visible at once.
     *
     * @throws RocketMQException `InvalidReceipt` if its invisible time has expired; `InvalidArgument` above 12 h
     */
    suspend fun changeInvisible(delivery: Delivery, invisibleDuration: Duration) {
        val nanos = invisibleDuration.nanos("invisibleDuration")
        settle(delivery, Settlement.ChangeInvisible) {
            rocketmq_thin_change_invisible(registered.key, delivery.key, nanos)
        }
    }

    /**
     * Returns a delivery that could not be processed. The message is delivered again after the time [after].
     *
     * @throws RocketMQException as for [changeInvisible]
     */
    suspend fun nack(delivery: Delivery, after: Duration) {
        val native = after.notNegative("after").toJavaDuration()
        settle(delivery, Settlement.Retry) { nackDelivery(registered.key, delivery.key, native) }
    }

    /**
     * Moves a delivery to the dead-letter topic, whose name is `%DLQ%` and the name of the group.
     *
     * @throws RocketMQException `InvalidReceipt` if the server does not accept the receipt handle, or the delivery is
     *   settled
     */
    suspend fun deadLetter(delivery: Delivery) {
        settle(delivery, Settlement.DeadLetter) { deadLetterDelivery(registered.key, delivery.key) }
    }

    private suspend inline fun settle(delivery: Delivery, settlement: Settlement, crossinline start: () -> Long) =
        observers.settling(group, delivery, settlement) {
            Operations.await<Outcome.Done>(this to delivery) { start() }
        }

    /**
     * Keeps a delivery invisible to other consumers until it is settled or garbage-collected, for at most [max].
     * Returns at once: the lease is renewed in the background, see [Delivery.isLeaseLost].
     *
     * @throws RocketMQException `InvalidReceipt` if the lease has ended
     */
    fun keepLease(delivery: Delivery, max: Duration) {
        val native = max.notNegative("max").toJavaDuration()
        Operations.call<Outcome.Done>(this to delivery) { keepDeliveryLease(registered.key, delivery.key, native) }
    }

    /** [keepLease] for Java. */
    fun keepLease(delivery: Delivery, max: JavaDuration) = keepLease(delivery, max.toKotlinDuration())

    /** Accepts no more calls, and waits up to [deadline] (20 s) for outstanding acks. */
    suspend fun close(deadline: Duration? = null): CloseReport =
        CloseReport(
            Operations.await<Outcome.Closed>(this) { closeConsumer(registered.key, deadline.toJava("deadline")) }
        )

    /** Runs [block] and then closes the consumer. */
    suspend inline fun <R> use(block: (SimpleConsumer) -> R): R =
        try {
            block(this)
        } finally {
            withContext(NonCancellable) { close() }
        }

    override fun toString() = "SimpleConsumer($group, $endpoints)"

    /** [receive] for Java. Messages that arrive after the future was cancelled go to the next receive. */
    @JvmOverloads
    fun receiveAsync(
        maxMessages: Int? = null,
        invisibleDuration: JavaDuration? = null,
        awaitDuration: JavaDuration? = null,
    ): CompletableFuture<List<Delivery>> {
        var arrived: Outcome.Received? = null
        val (invisible, await) = invisibleDuration?.toKotlinDuration() to awaitDuration?.toKotlinDuration()
        return future(lost = { arrived?.let(::putBack) }) {
            receive(maxMessages, invisible, await) { arrived = it }
        }
    }

    /**
     * [messages] for Java, one at a time:
     *
     * ```
     * try (var messages = consumer.messagesAsync()) {
     *     for (Delivery next; (next = messages.nextAsync().join()) != null; ) consumer.ackAsync(next).join();
     * }
     * ```
     */
    @JvmOverloads
    fun messagesAsync(
        maxMessages: Int? = null,
        maxBytes: Long? = null,
        invisibleDuration: JavaDuration? = null,
    ): Messages = Messages(this, fetchOptions(maxMessages, maxBytes, invisibleDuration?.toKotlinDuration()))

    /** [ack] for Java. */
    fun ackAsync(delivery: Delivery): CompletableFuture<Unit> = future { ack(delivery) }

    /** [ackAll] for Java. Each future in the list is completed, or failed with a [RocketMQException]. */
    fun ackAllAsync(deliveries: List<Delivery>): CompletableFuture<List<CompletableFuture<Unit>>> =
        future { ackAll(deliveries).map { it.toFuture() } }

    /** [changeInvisible] for Java. */
    fun changeInvisibleAsync(delivery: Delivery, invisibleDuration: JavaDuration): CompletableFuture<Unit> =
        future { changeInvisible(delivery, invisibleDuration.toKotlinDuration()) }

    /** [nack] for Java. */
    fun nackAsync(delivery: Delivery, after: JavaDuration): CompletableFuture<Unit> =
        future { nack(delivery, after.toKotlinDuration()) }

    /** [deadLetter] for Java. */
    fun deadLetterAsync(delivery: Delivery): CompletableFuture<Unit> = future { deadLetter(delivery) }

    /** [close] for Java. */
    @JvmOverloads
    fun closeAsync(deadline: JavaDuration? = null): CompletableFuture<CloseReport> =
        future { close(deadline?.toKotlinDuration()) }

    private companion object {
        /** Selects the core's default where null cannot be passed. */
        const val DEFAULT = -1

        fun Duration.nanos(argument: String): Long = notNegative(argument).inWholeNanoseconds

        fun fetchOptions(maxMessages: Int?, maxBytes: Long?, invisibleDuration: Duration?) =
            FetchOptions(
                maxMessages.toNative("maxMessages"),
                maxBytes.toNative("maxBytes"),
                invisibleDuration.toJava("invisibleDuration"),
            )
    }
}
