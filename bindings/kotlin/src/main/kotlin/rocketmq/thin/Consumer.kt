package rocketmq.thin

import java.util.concurrent.CompletableFuture
import java.util.function.Consumer
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.map
import rocketmq.thin.internal.ConsumerKey
import rocketmq.thin.internal.Outcome
import rocketmq.thin.internal.liteRevocations as openRevocations
import rocketmq.thin.internal.nextRevocation
import rocketmq.thin.internal.subscribeLiteTopic
import rocketmq.thin.internal.subscribedLiteTopics
import rocketmq.thin.internal.unsubscribeLiteTopic

/**
 * Functions of consumers of lite topics, which have the option `lite`. For other consumers they fail with
 * [RocketMQException.InvalidArgument].
 */
sealed class LiteConsumer(private val consumer: ConsumerKey) {
    /** Subscribes to [liteTopic]. */
    suspend fun subscribeLite(liteTopic: String) {
        Operations.await<Outcome.Done>(this) { subscribeLiteTopic(consumer, liteTopic) }
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

    /** [subscribeLite] for Java. */
    fun subscribeLiteAsync(liteTopic: String): CompletableFuture<Unit> = future { subscribeLite(liteTopic) }

    /** [unsubscribeLite] for Java. */
    fun unsubscribeLiteAsync(liteTopic: String): CompletableFuture<Unit> = future { unsubscribeLite(liteTopic) }

    /**
     * [liteRevocations] for Java. The future completes when the consumer is closed; cancelling it ends the calls of
     * [listener].
     */
    fun liteRevocationsAsync(listener: Consumer<String>): CompletableFuture<Unit> =
        future { liteRevocations().collect(listener::accept) }
}
