package rocketmq.thin

import java.time.Duration as JavaDuration
import java.util.concurrent.CompletableFuture
import java.util.concurrent.ConcurrentHashMap
import java.util.function.Consumer
import kotlin.time.Duration
import kotlin.time.toKotlinDuration
import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.map
import kotlinx.coroutines.withContext
import rocketmq.thin.internal.ConnectOptions
import rocketmq.thin.internal.Outcome
import rocketmq.thin.internal.clientHealth
import rocketmq.thin.internal.clientMetrics
import rocketmq.thin.internal.clientStatusChanges
import rocketmq.thin.internal.closeClient
import rocketmq.thin.internal.connect
import rocketmq.thin.internal.connectWithProvider
import rocketmq.thin.internal.createConsumer
import rocketmq.thin.internal.createCredentialRequests
import rocketmq.thin.internal.createProducer
import rocketmq.thin.internal.createPushConsumer
import rocketmq.thin.internal.nextStatusChange

/**
 * A connection to a RocketMQ service. Its producers and consumers share connections, credentials and namespace.
 *
 * ```
 * Client.connect("10.0.0.7:8081") { namespace = "prod" }.use { client ->
 *     client.producer { topics("orders") }.use { producer -> producer.send(Message("orders", "hello")) }
 * }
 * ```
 *
 * Each suspending function has a variant for Java with the suffix `Async`, which returns a [CompletableFuture].
 * Cancelling the coroutine or the future cancels the operation.
 */
class Client
private constructor(
    private val registered: Outcome.Registered,
    private val endpoints: String,
    private val observers: Observers,
    private val callbacks: CallbackRunner,
) {
    /** The push consumers that are not closed. They run even if the application does not refer to them. */
    private val pushConsumers: MutableSet<PushConsumer> = ConcurrentHashMap.newKeySet()

    /**
     * Creates a producer. The topics in [options] must exist. With [Startup.Lazy], the first send checks them.
     *
     * @throws RocketMQException the server's error, such as `TopicNotFound`, or `Timeout` after the startup timeout
     */
    suspend fun producer(options: ProducerOptions.() -> Unit = {}): Producer {
        val given = ProducerOptions().apply(options)
        val native = given.toNative()
        val producer = Operations.await<Outcome.Registered>(this) { createProducer(registered.key, native) }
        return Producer(producer, endpoints, observers, given.checker?.let { callbacks.answerChecks(producer, it) })
    }

    /**
     * Creates a consumer in [group]. Its members share the messages.
     *
     * @throws RocketMQException as for [producer]
     */
    suspend fun simpleConsumer(group: String, options: SimpleConsumerOptions.() -> Unit): SimpleConsumer {
        val native = SimpleConsumerOptions(group).apply(options).toNative()
        val consumer = Operations.await<Outcome.Registered>(this) { createConsumer(registered.key, native) }
        return SimpleConsumer(consumer, group, endpoints, observers)
    }

    /**
     * Creates a consumer in [group] that calls a handler for each message, until it or this client is closed.
     *
     * ```
     * client.pushConsumer("billing") {
     *     subscribe("orders")
     *     concurrency = 64
     *     handler { delivery ->
     *         println(delivery.body.decodeToString())
     *         ConsumeResult.Ack
     *     }
     * }
     * ```
     *
     * @throws RocketMQException as for [producer]
     * @throws IllegalArgumentException without a handler
     */
    suspend fun pushConsumer(group: String, options: PushConsumerOptions.() -> Unit): PushConsumer {
        val given = PushConsumerOptions(group).apply(options)
        val (handler, native) = given.requireHandler() to given.toNative()
        val consumer = Operations.await<Outcome.Registered>(this) { createPushConsumer(registered.key, native) }
        val handlerRunner = HandlerRunner(consumer, group, handler, observers)
        return PushConsumer(consumer, group, endpoints, handlerRunner, pushConsumers)
    }

    /** Returns whether the servers can be reached, according to the latest calls and heartbeats. */
    fun health(): Health = Health(Operations.call<Outcome.Health>(this) { clientHealth(registered.key) }.health)

    /** Emits the current health, and then the health after each status change, until the client is closed. */
    fun statusChanges(): Flow<Health> =
        Operations.outcomes<Outcome.Health>(
                { Operations.call<Outcome.Registered>(this) { clientStatusChanges(registered.key) } },
                ::nextStatusChange,
            )
            .map { Health(it.health) }

    /** Returns the metrics of the client since it was created. */
    fun metrics(): Metrics = Metrics(Operations.call<Outcome.Metrics>(this) { clientMetrics(registered.key) }.metrics)

    /**
     * Closes all producers and consumers of this client within one [deadline] (20 s). If the caller is cancelled, the
     * close continues.
     */
    suspend fun close(deadline: Duration? = null): CloseReport {
        val native = deadline.toJava("deadline")
        return uncancelled {
            try {
                pushConsumers.forEach { it.stopBeginning() }
                val closed = Operations.await<Outcome.Closed>(this) { closeClient(registered.key, native) }
                callbacks.cancel()
                CloseReport(closed)
            } finally {
                pushConsumers.forEach { it.stop() }
            }
        }
    }

    /** Runs [block] and then closes the client. */
    suspend inline fun <R> use(block: (Client) -> R): R =
        try {
            block(this)
        } finally {
            withContext(NonCancellable) { close() }
        }

    override fun toString() = "Client($endpoints)"

    /**
     * [statusChanges] for Java. The future completes when the client is closed; cancelling it ends the calls of
     * [listener].
     */
    fun statusChangesAsync(listener: Consumer<Health>): CompletableFuture<Unit> =
        future { statusChanges().collect(listener::accept) }

    /** [producer] for Java. */
    @JvmOverloads
    fun producerAsync(options: Consumer<ProducerOptions> = Consumer {}): CompletableFuture<Producer> =
        future { producer { options.accept(this) } }

    /** [simpleConsumer] for Java. */
    fun simpleConsumerAsync(group: String, options: Consumer<SimpleConsumerOptions>): CompletableFuture<SimpleConsumer> =
        future { simpleConsumer(group) { options.accept(this) } }

    /** [pushConsumer] for Java. */
    fun pushConsumerAsync(group: String, options: Consumer<PushConsumerOptions>): CompletableFuture<PushConsumer> =
        future { pushConsumer(group) { options.accept(this) } }

    /** [close] for Java. */
    @JvmOverloads
    fun closeAsync(deadline: JavaDuration? = null): CompletableFuture<CloseReport> =
        future { close(deadline?.toKotlinDuration()) }

    companion object {
        /**
         * Connects to one of the [endpoints], which are separated by `,` or `;`. Each is `host:port`, `host`
         * (port 8081), `[::1]:port`, `http://host:port`, or `https://host:port`, which turns TLS on.
         *
         * @throws RocketMQException `InvalidOptions`; `Unavailable`, `Tls` or `Timeout` if no endpoint could be
         *   reached within the startup timeout
         * @throws UnsatisfiedLinkError if the native library cannot be loaded. The message says what to do
         */
        suspend fun connect(endpoints: String, options: ClientOptions.() -> Unit = {}): Client {
            val given = ClientOptions(endpoints).apply(options)
            val native = given.toNative()
            Operations.start()
            val observers = Observers(given.logger, given.interceptors)
            val callbacks = CallbackRunner(observers)
            val logs = Logs.forwardTo(observers)
            try {
                val registered = open(native, given.provider, callbacks)
                if (given.logger != null) callbacks.logStatus(registered, logs)
                return Client(registered, endpoints, observers, callbacks)
            } catch (e: Throwable) {
                logs.close()
                callbacks.cancel()
                throw e
            }
        }

        private suspend fun open(
            native: ConnectOptions,
            provider: (suspend () -> Credentials)?,
            callbacks: CallbackRunner,
        ): Outcome.Registered {
            if (provider == null) return Operations.await(native) { connect(native) }
            val requests = Operations.call<Outcome.Registered>(native) { createCredentialRequests() }
            callbacks.answerRequests(requests, provider)
            return Operations.await(requests) { connectWithProvider(native, requests.key) }
        }

        /** [connect] for Java. */
        @JvmStatic
        @JvmOverloads
        fun connectAsync(endpoints: String, options: Consumer<ClientOptions> = Consumer {}): CompletableFuture<Client> =
            future { connect(endpoints) { options.accept(this) } }
    }
}
