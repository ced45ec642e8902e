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
 * What consumers of lite topics do: those with the option `lite`. For others it fails with
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

    /** The lite topics that it is subscribed to. */
    fun liteTopics(): List<String> = keeping(this) { subscribedLiteTopics(consumer) }

    /** The lite topics whose subscription the server ends from the beginning of the collection on, until a close. */
    fun liteRevocations(): Flow<String> =
        Operations.each<Outcome.Text>(
                { Operations.answer<Outcome.Made>(this) { openRevocations(consumer) } },
                ::nextRevocation,
            )
            .map { it.text }

    /** [subscribeLite] for Java. */
    fun subscribeLiteAsync(liteTopic: String): CompletableFuture<Unit> = future { subscribeLite(liteTopic) }

    /** [unsubscribeLite] for Java. */
    fun unsubscribeLiteAsync(liteTopic: String): CompletableFuture<Unit> = future { unsubscribeLite(liteTopic) }

    /** [liteRevocations] for Java. The future completes when the consumer is closed; cancelling it ends the calls of [listener]. */
    fun liteRevocationsAsync(listener: Consumer<String>): CompletableFuture<Unit> =
        future { liteRevocations().collect(listener::accept) }
}
