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
import rocketmq.thin.internal.TopicFilter
import rocketmq.thin.internal.closeConsumer
import rocketmq.thin.internal.consumerSubscriptions
import rocketmq.thin.internal.deadLetterDelivery
import rocketmq.thin.internal.keepDeliveryLease
import rocketmq.thin.internal.nackDelivery
import rocketmq.thin.internal.subscribeTopic
import rocketmq.thin.internal.unsubscribeTopic

/** Receives messages one call at a time, or as a flow. Created by [Client.simpleConsumer]. */
class SimpleConsumer
internal constructor(
    private val made: Outcome.Made,
    private val group: String,
    private val endpoints: String,
    private val observers: Observers,
) : LiteConsumer(ConsumerKey.Simple(made.key)) {
    internal val key get() = made.key

    /**
     * Waits for messages of any subscribed topic. Returns an empty list if none arrives in time. A parameter that is
     * null has its default. If the coroutine is cancelled, the next receive or collection of [messages] gets what has
     * arrived.
     *
     * @param maxMessages the maximum number of deliveries, 1 or more (32). Servers return at most 32.
     * @param invisibleDuration how long the deliveries are invisible to other consumers (30 s). Servers allow 10 s to
     *   12 h.
     * @param awaitDuration how long to wait for the first message (20 s). With zero, it returns what
     *   has arrived already, and what comes then goes to a later receive.
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
        return receiving {
            val received =
                Operations.await<Outcome.Received>(this, lost = ::putBack) {
                    rocketmq_thin_receive(made.key, maxMessages ?: DEFAULT, invisible, await)
                }
            received.messages.map { Delivery(it, received.hold) }
        }
    }

    internal suspend inline fun receiving(receive: () -> List<Delivery>): List<Delivery> =
        observers.receiving(group, receive)

    private fun putBack(lost: Outcome) =
        lost.putBack(this) { messages, length -> rocketmq_thin_put_back(made.key, messages, length) }

    /**
     * Fetches messages ahead, and emits one at a time until the consumer is closed. A parameter that is null has its
     * default. The leases of messages that wait are kept. Receives and other collections share what was fetched.
     *
     * A collection that ends before, as with `first()` or `take(5)`, gives back what was not emitted. One that is cancelled
     * does that in the background.
     *
     * @param maxMessages the maximum number of messages that wait (128)
     * @param maxBytes the size of their bodies, in bytes, above which nothing more is fetched (64 MiB)
     * @param invisibleDuration how long deliveries are invisible to other consumers (30 s). At least half of it is left
     *   when a delivery is emitted. Servers allow 10 s to 12 h.
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
        settle(delivery, Settlement.Ack) { rocketmq_thin_ack(made.key, delivery.key) }
    }

    /** Acknowledges several deliveries. The results are in the order of the deliveries. */
    suspend fun ackAll(deliveries: List<Delivery>): List<Result<Unit>> =
        observers.settlingAll(group, deliveries, Settlement.Ack) {
            val keys = LongArray(deliveries.size) { deliveries[it].key }
            val settled =
                Operations.await<Outcome.AllSettled>(this to deliveries) {
                    rocketmq_thin_ack_all(made.key, keys, keys.size)
                }
            settled.failures.map { if (it == null) Result.success(Unit) else Result.failure(it.toException()) }
        }

    /**
     * Makes a delivery invisible to other consumers for [invisibleDuration] from now. Zero makes it visible at once.
     *
     * @throws RocketMQException `InvalidReceipt` if its invisible time has expired; `InvalidArgument` above 12 h
     */
    suspend fun changeInvisible(delivery: Delivery, invisibleDuration: Duration) {
        val millis = invisibleDuration.millis("invisibleDuration")
        settle(delivery, Settlement.ChangeInvisible) {
            rocketmq_thin_change_invisible(made.key, delivery.key, millis)
        }
    }

    /** Gives a delivery back. The message is delivered again after [after]. */
    suspend fun nack(delivery: Delivery, after: Duration) {
        val native = after.notNegative("after").toJavaDuration()
        settle(delivery, Settlement.Retry) { nackDelivery(made.key, delivery.key, native) }
    }

    /** Gives up on a delivery. It moves to the dead-letter topic: `%DLQ%` and the name of the group. */
    suspend fun deadLetter(delivery: Delivery) {
        settle(delivery, Settlement.DeadLetter) { deadLetterDelivery(made.key, delivery.key) }
    }

    private suspend inline fun settle(delivery: Delivery, settlement: Settlement, crossinline start: () -> Long) =
        observers.settling(group, delivery, settlement) {
            Operations.await<Outcome.Done>(this to delivery) { start() }
        }

    /**
     * Keeps a delivery invisible to other consumers until it is settled or collected as garbage, for at most [max]. Returns
     * at once: the lease is renewed in the background, see [Delivery.isLeaseLost].
     *
     * @throws RocketMQException `InvalidReceipt` if the lease is over
     */
    fun keepLease(delivery: Delivery, max: Duration) {
        val native = max.notNegative("max").toJavaDuration()
        Operations.answer<Outcome.Done>(this to delivery) { keepDeliveryLease(made.key, delivery.key, native) }
    }

    /** [keepLease] for Java. */
    fun keepLease(delivery: Delivery, max: JavaDuration) = keepLease(delivery, max.toKotlinDuration())

    /** Receives the messages of [topic] that match [filter] from now on, or changes its filter. */
    suspend fun subscribe(topic: String, filter: Filter = Filter.ALL) {
        Operations.await<Outcome.Done>(this) { subscribeTopic(made.key, TopicFilter(topic, filter.native)) }
    }

    /** What it receives now: its topics and their filters. */
    fun subscriptions(): Map<String, Filter> =
        keeping(this) { consumerSubscriptions(made.key) }.associate { it.topic to Filter.of(it.filter) }

    /** Stops receiving [topic]. What was received of it can still be settled. */
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

    override fun toString() = "SimpleConsumer($group, $endpoints)"

    /** [receive] for Java. */
    @JvmOverloads
    fun receiveAsync(
        maxMessages: Int? = null,
        invisibleDuration: JavaDuration? = null,
        awaitDuration: JavaDuration? = null,
    ): CompletableFuture<List<Delivery>> = future {
        receive(maxMessages, invisibleDuration?.toKotlinDuration(), awaitDuration?.toKotlinDuration())
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

    /** [ackAll] for Java. The futures in the list are completed, those that failed with a [RocketMQException]. */
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

    /** [subscribe] for Java. */
    @JvmOverloads
    fun subscribeAsync(topic: String, filter: Filter = Filter.ALL): CompletableFuture<Unit> =
        future { subscribe(topic, filter) }

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

        fun fetchOptions(maxMessages: Int?, maxBytes: Long?, invisibleDuration: Duration?) =
            FetchOptions(
                maxMessages?.notNegative("maxMessages")?.toULong(),
                maxBytes?.notNegative("maxBytes")?.toULong(),
                invisibleDuration.toJava("invisibleDuration"),
            )
    }
}
