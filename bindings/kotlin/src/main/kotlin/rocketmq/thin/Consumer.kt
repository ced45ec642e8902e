package rocketmq.thin

import java.util.concurrent.CompletableFuture
import java.util.function.Consumer as JavaConsumer
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.map
import rocketmq.thin.internal.ConsumerKey
import rocketmq.thin.internal.Outcome
import rocketmq.thin.internal.TopicFilter
import rocketmq.thin.internal.consumerSubscriptions
import rocketmq.thin.internal.liteRevocations as openRevocations
import rocketmq.thin.internal.nextRevocation
import rocketmq.thin.internal.subscribeLiteTopic
import rocketmq.thin.internal.subscribeTopic
import rocketmq.thin.internal.subscribedLiteTopics
import rocketmq.thin.internal.unsubscribeLiteTopic
import rocketmq.thin.internal.unsubscribeTopic

/**
 * The subscriptions of a [SimpleConsumer] or a [PushConsumer].
 *
 * Lite consumers, which have the option `lite`, subscribe to lite topics only: [subscribe] and [unsubscribe] fail with
 * [RocketMQException.InvalidArgument]. For other consumers, [subscribeLite], [unsubscribeLite] and [liteRevocations] fail
 * in the same way, and [liteTopics] returns an empty list.
 */
sealed class Consumer(private val consumer: ConsumerKey) {
    /**
     * Subscribes to the messages of [topic] that match [filter], or changes the filter of a subscribed topic. Messages
     * that matched the previous filter and that the application has not received are returned to the server.
     *
     * @throws RocketMQException `TopicNotFound` if the topic does not exist; then the subscriptions do not change
     */
    suspend fun subscribe(topic: String, filter: Filter = Filter.ALL) {
        Operations.await<Outcome.Done>(this) { subscribeTopic(consumer, TopicFilter(topic, filter.native)) }
    }

    /**
     * Ends the subscription of [topic]. Its messages that the application has not received are returned to the server.
     * Deliveries of a simple consumer can still be settled. Running handlers of a push consumer continue, and their
     * messages are settled; no more handlers are called for the topic. A push consumer without topics is idle.
     */
    suspend fun unsubscribe(topic: String) {
        Operations.await<Outcome.Done>(this) { unsubscribeTopic(consumer, topic) }
    }

    /** Returns the current subscriptions: topics and their filters. */
    fun subscriptions(): Map<String, Filter> =
        keepReachable(this) { consumerSubscriptions(consumer) }.associate { it.topic to Filter.of(it.filter) }

    /**
     * Subscribes to [liteTopic], and moves the group to [start]. Without [start] the group continues where it was. All
     * consumers of the group share the position. If the consumer is already subscribed to [liteTopic], nothing changes.
     */
    suspend fun subscribeLite(liteTopic: String, start: OffsetOption? = null) {
        Operations.await<Outcome.Done>(this) { subscribeLiteTopic(consumer, liteTopic, start?.native) }
    }

    /** Ends the subscription of [liteTopic]. */
    suspend fun unsubscribeLite(liteTopic: String) {
        Operations.await<Outcome.Done>(this) { unsubscribeLiteTopic(consumer, liteTopic) }
    }

    /** Returns the lite topics that the consumer is subscribed to. */
    fun liteTopics(): List<String> = keepReachable(this) { subscribedLiteTopics(consumer) }

    /** Emits the lite topics whose subscription the server ends during the collection, until the consumer is closed. */
    fun liteRevocations(): Flow<String> =
        Operations.outcomes<Outcome.Text>(
                { Operations.call<Outcome.Registered>(this) { openRevocations(consumer) } },
                ::nextRevocation,
            )
            .map { it.text }

    /** [subscribe] for Java. */
    @JvmOverloads
    fun subscribeAsync(topic: String, filter: Filter = Filter.ALL): CompletableFuture<Unit> =
        future { subscribe(topic, filter) }

    /** [unsubscribe] for Java. */
    fun unsubscribeAsync(topic: String): CompletableFuture<Unit> = future { unsubscribe(topic) }

    /** [subscribeLite] for Java. */
    @JvmOverloads
    fun subscribeLiteAsync(liteTopic: String, start: OffsetOption? = null): CompletableFuture<Unit> =
        future { subscribeLite(liteTopic, start) }

    /** [unsubscribeLite] for Java. */
    fun unsubscribeLiteAsync(liteTopic: String): CompletableFuture<Unit> = future { unsubscribeLite(liteTopic) }

    /**
     * [liteRevocations] for Java. The future completes when the consumer is closed; cancelling it ends the calls of
     * [listener].
     */
    fun liteRevocationsAsync(listener: JavaConsumer<String>): CompletableFuture<Unit> =
        future { liteRevocations().collect(listener::accept) }
}
