package rocketmq.thin

import java.time.Duration as JavaDuration
import java.util.Objects.requireNonNull
import kotlin.time.Duration
import kotlin.time.toKotlinDuration
import kotlinx.coroutines.CoroutineDispatcher
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.runInterruptible
import rocketmq.thin.internal.ConsumeOptions
import rocketmq.thin.internal.HandleOptions
import rocketmq.thin.internal.MessageFilter
import rocketmq.thin.internal.TopicFilter

/**
 * Options of a [SimpleConsumer], which has either subscriptions or [lite]. An option that is null has its default.
 */
class SimpleConsumerOptions internal constructor(private val group: String) {
    private val subscriptions = mutableListOf<TopicFilter>()
    private var lite: String? = null

    /**
     * The maximum size of a decompressed body, in bytes. A larger body is delivered as corrupted. It also limits the total
     * size of the bodies of one response that are decompressed when they arrive. The other ones are decompressed when they
     * are handed out, and [SimpleConsumer.receive] returns each of them alone. Default: 64 MiB.
     */
    var maxBodySize: Long? = null

    /** Subscribes to messages of [topic] that match [filter]. All members of a group need the same subscriptions. */
    @JvmOverloads
    fun subscribe(topic: String, filter: Filter = Filter.ALL) =
        apply { subscriptions += TopicFilter(topic, filter.native) }

    /** Receives from lite topics of [topic], which [SimpleConsumer.subscribeLite] selects. */
    fun lite(topic: String) = apply { lite = topic }

    /** [maxBodySize] for Java. */
    fun maxBodySize(limit: Long) = apply { maxBodySize = limit }

    internal fun toNative() =
        ConsumeOptions(group, subscriptions, lite, maxBodySize.toNative("maxBodySize"))
}

/**
 * Options of a [PushConsumer], which has a handler, and either subscriptions or [lite]. An option that is null has its
 * default.
 */
class PushConsumerOptions internal constructor(private val group: String) {
    private val subscriptions = mutableListOf<TopicFilter>()
    private var lite: String? = null
    private var handler: Handler? = null

    /** The maximum number of messages that are handled at the same time. Default: 20. */
    var concurrency: Int? = null

    /** The maximum number of messages in the client that wait, or are being handled or settled. Default: 4096. */
    var maxCachedMessages: Int? = null

    /** The maximum size of their bodies, in bytes. Above it, receiving pauses. Default: 64 MiB. */
    var maxCachedBytes: Long? = null

    /**
     * The duration of a lease, which is renewed while a message waits or is handled. If the process dies, its messages
     * are delivered again after this time. Default: 60 s.
     */
    var invisibleDuration: Duration? = null

    /** The maximum number of messages that are handled per second. Default: no limit. */
    var maxRate: Double? = null

    /**
     * The maximum size of a decompressed body, in bytes. A larger body is delivered as corrupted. It also limits the total
     * size of the bodies of one response that are decompressed when they arrive. The other ones are decompressed when they
     * are handed out, and [SimpleConsumer.receive] returns each of them alone. Default: 64 MiB.
     */
    var maxBodySize: Long? = null

    /** Subscribes to messages of [topic] that match [filter]. All members of a group need the same subscriptions. */
    @JvmOverloads
    fun subscribe(topic: String, filter: Filter = Filter.ALL) =
        apply { subscriptions += TopicFilter(topic, filter.native) }

    /** Receives from lite topics of [topic], which [PushConsumer.subscribeLite] selects. */
    fun lite(topic: String) = apply { lite = topic }

    /** [concurrency] for Java. */
    fun concurrency(limit: Int) = apply { concurrency = limit }

    /** [maxCachedMessages] for Java. */
    fun maxCachedMessages(limit: Int) = apply { maxCachedMessages = limit }

    /** [maxCachedBytes] for Java. */
    fun maxCachedBytes(limit: Long) = apply { maxCachedBytes = limit }

    /** [maxRate] for Java. */
    fun maxRate(limit: Double) = apply { maxRate = limit }

    /** [maxBodySize] for Java. */
    fun maxBodySize(limit: Long) = apply { maxBodySize = limit }

    /** [invisibleDuration] for Java. */
    fun invisibleDuration(duration: JavaDuration) = apply { invisibleDuration = duration.toKotlinDuration() }

    /**
     * Sets the handler, which is called for each message in a coroutine of [Dispatchers.Default]. An exception means
     * [ConsumeResult.Retry]. The coroutine is cancelled if it runs longer than a close waits.
     */
    fun handler(handle: suspend (Delivery) -> ConsumeResult) = apply {
        handler = Handler(Dispatchers.Default, handle)
    }

    /** Sets a handler that is called in a thread, which it may block: for Java, and for code that does not suspend. */
    fun blockingHandler(handler: BlockingHandler) = apply {
        // This dispatcher starts as many threads as there are messages being handled.
        val threads = Dispatchers.IO.limitedParallelism(Int.MAX_VALUE)
        this.handler = Handler(threads) { delivery ->
            // A handler in Java may return null.
            runInterruptible { requireNonNull(handler.handle(delivery), "a handler must return a ConsumeResult") }
        }
    }

    internal fun requireHandler(): Handler =
        requireNotNull(handler) { "a push consumer needs a handler: set it with handler { delivery -> ... } in the options" }

    internal fun toNative() =
        HandleOptions(
            group,
            subscriptions,
            lite,
            concurrency.toNative("concurrency"),
            maxCachedMessages.toNative("maxCachedMessages"),
            maxCachedBytes.toNative("maxCachedBytes"),
            invisibleDuration.toJava("invisibleDuration"),
            maxRate,
            maxBodySize.toNative("maxBodySize"),
        )
}

/** The application's function that handles messages, and the dispatcher that it runs on. */
internal class Handler(val dispatcher: CoroutineDispatcher, val handle: suspend (Delivery) -> ConsumeResult)

/** Selects messages of a topic. */
class Filter private constructor(internal val native: MessageFilter) {
    override fun equals(other: Any?) = other is Filter && other.native == native

    override fun hashCode() = native.hashCode()

    override fun toString() =
        when (native) {
            is MessageFilter.All -> "Filter.ALL"
            is MessageFilter.Tags -> "Filter.tags(${native.v1.joinToString()})"
            is MessageFilter.Sql -> "Filter.sql(${native.v1})"
        }

    companion object {
        /** All messages. */
        @JvmField val ALL = Filter(MessageFilter.All)

        /** Messages with one of these tags. */
        @JvmStatic fun tags(vararg tags: String) = Filter(MessageFilter.Tags(tags.asList()))

        /** Messages whose properties match this SQL-92 expression, such as `amount > 100 AND region = 'eu'`. */
        @JvmStatic fun sql(expression: String) = Filter(MessageFilter.Sql(expression))

        internal fun of(native: MessageFilter) = Filter(native)
    }
}
