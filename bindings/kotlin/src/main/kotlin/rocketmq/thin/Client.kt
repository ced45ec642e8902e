package rocketmq.thin

import java.time.Duration as JavaDuration
import java.util.concurrent.CompletableFuture
import java.util.function.Consumer
import kotlin.time.Duration
import kotlin.time.toJavaDuration
import kotlin.time.toKotlinDuration
import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.withContext
import rocketmq.thin.internal.Outcome
import rocketmq.thin.internal.closeClient
import rocketmq.thin.internal.connect
import rocketmq.thin.internal.makeConsumer
import rocketmq.thin.internal.makeProducer

/**
 * A way to one RocketMQ service: one set of connections, credentials and names that producers and consumers
 * share.
 *
 * ```
 * Client.connect("10.0.0.7:8081") { namespace = "prod" }.use { client ->
 *     client.producer { topics("orders") }.use { producer -> producer.send(Message("orders", "hello")) }
 * }
 * ```
 *
 * Every suspending function has a twin for Java that ends in `Async` and returns a [CompletableFuture].
 * Cancelling the coroutine or the future cancels the operation.
 */
class Client private constructor(private val made: Outcome.Made) {
    /**
     * A producer, ready to send: the server knows the topics named in [options].
     *
     * @throws RocketMQException as the server says, or `Timeout` when it says nothing within the startup timeout
     */
    suspend fun producer(options: ProducerOptions.() -> Unit = {}): Producer {
        val native = ProducerOptions().apply(options).toNative()
        return Producer(Operations.await(this) { makeProducer(made.key, native) })
    }

    /**
     * A consumer in [group], ready to receive.
     *
     * @throws RocketMQException as for [producer]
     */
    suspend fun simpleConsumer(group: String, options: SimpleConsumerOptions.() -> Unit): SimpleConsumer {
        val native = SimpleConsumerOptions(group).apply(options).toNative()
        return SimpleConsumer(Operations.await(this) { makeConsumer(made.key, native) })
    }

    /** Closes every producer and consumer made from this client, together within [deadline] (20 s). */
    suspend fun close(deadline: Duration? = null): CloseReport =
        CloseReport(Operations.await<Outcome.Closed>(this) { closeClient(made.key, deadline?.toJavaDuration()) })

    /** Runs [block], then closes. */
    suspend inline fun <R> use(block: (Client) -> R): R =
        try {
            block(this)
        } finally {
            withContext(NonCancellable) { close() }
        }

    /** [producer] for Java. */
    fun producerAsync(options: Consumer<ProducerOptions>): CompletableFuture<Producer> =
        future { producer { options.accept(this) } }

    /** [simpleConsumer] for Java. */
    fun simpleConsumerAsync(group: String, options: Consumer<SimpleConsumerOptions>): CompletableFuture<SimpleConsumer> =
        future { simpleConsumer(group) { options.accept(this) } }

    /** [close] for Java. */
    @JvmOverloads
    fun closeAsync(deadline: JavaDuration? = null): CompletableFuture<CloseReport> =
        future { close(deadline?.toKotlinDuration()) }

    companion object {
        /**
         * Reaches one of the [endpoints], which are separated by `,` or `;`. Each is `host:port`, `host`
         * (port 8081), `[::1]:port`, `http://host:port`, or `https://host:port`, which turns TLS on.
         *
         * @throws RocketMQException `InvalidOptions` at once; `Unavailable`, `Tls` or `Timeout` when no endpoint
         *   could be reached within the startup timeout
         */
        suspend fun connect(endpoints: String, options: ClientOptions.() -> Unit = {}): Client {
            val native = ClientOptions(endpoints).apply(options).toNative()
            Operations.start()
            return Client(Operations.await(native) { connect(native) })
        }

        /** [connect] for Java. */
        @JvmStatic
        @JvmOverloads
        fun connectAsync(endpoints: String, options: Consumer<ClientOptions> = Consumer {}): CompletableFuture<Client> =
            future { connect(endpoints) { options.accept(this) } }
    }
}
