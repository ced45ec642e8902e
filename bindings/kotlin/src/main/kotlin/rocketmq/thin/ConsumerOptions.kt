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

/** What a [SimpleConsumer] receives: the messages of topics, or of lite topics. An option that is null has its default. */
class SimpleConsumerOptions internal constructor(private val group: String) {
    private val subscriptions = mutableListOf<TopicFilter>()
    private var lite: String? = null

    /** The maximum size of a decompressed body, in bytes (64 MiB). A larger one is delivered as corrupted. */
    var maxBodySize: Long? = null

    /** Subscribes to the messages of [topic] that match [filter]. All members of a group must have the same. */
    @JvmOverloads
    fun subscribe(topic: String, filter: Filter = Filter.ALL) =
        apply { subscriptions += TopicFilter(topic, filter.native) }

    /** Receives from lite topics of [topic], which are chosen with [SimpleConsumer.subscribeLite]. */
    fun lite(topic: String) = apply { lite = topic }

    internal fun toNative() =
        ConsumeOptions(group, subscriptions, lite, maxBodySize?.notNegative("maxBodySize")?.toULong())
}

/**
 * What a [PushConsumer] receives, what handles it, and how much at a time. An option that is null has its default. It needs
 * a handler, and either subscriptions or [lite].
 */
class PushConsumerOptions internal constructor(private val group: String) {
    private val subscriptions = mutableListOf<TopicFilter>()
    private var lite: String? = null
    private var handler: Handler? = null

    /** How many messages are handled at the same time (20). */
    var concurrency: Int? = null

    /** How many messages are held at most: those that wait and those that are handled or settled (4096). */
    var maxCachedMessages: Int? = null

    /** The size of their bodies, in bytes, above which nothing is received (64 MiB). */
    var maxCachedBytes: Long? = null

    /**
     * The length of a lease, which is renewed while a message waits or is handled (60 s). If the process dies, its messages
     * come again after this time.
     */
    var invisibleDuration: Duration? = null

    /** How many messages a second are handled at most (no limit). */
    var maxRate: Double? = null

    /** The maximum size of a decompressed body, in bytes (64 MiB). A larger one is delivered as corrupted. */
    var maxBodySize: Long? = null

    /** Subscribes to the messages of [topic] that match [filter]. All members of a group must have the same. */
    @JvmOverloads
    fun subscribe(topic: String, filter: Filter = Filter.ALL) =
        apply { subscriptions += TopicFilter(topic, filter.native) }

    /** Receives from lite topics of [topic], which are chosen with [PushConsumer.subscribeLite]. */
    fun lite(topic: String) = apply { lite = topic }

    /** [invisibleDuration] for Java. */
    fun invisibleDuration(duration: JavaDuration) = apply { invisibleDuration = duration.toKotlinDuration() }

    /**
     * Handles each message, in a coroutine of [Dispatchers.Default]. What it throws means [ConsumeResult.Retry]. It is
     * cancelled if it runs longer than a close waits.
     */
    fun handler(handle: suspend (Delivery) -> ConsumeResult) = apply {
        handler = Handler(Dispatchers.Default, handle)
    }

    /** Handles each message in a thread, which it may block: for Java, and for code that waits without suspending. */
    fun blockingHandler(handler: BlockingHandler) = apply {
        // This dispatcher has as many threads as are needed: one for each message that is handled.
        val threads = Dispatchers.IO.limitedParallelism(Int.MAX_VALUE)
        this.handler = Handler(threads) { delivery ->
            // Java's compiler lets it return null.
            runInterruptible { requireNonNull(handler.handle(delivery), "a handler must return a ConsumeResult") }
        }
    }

    internal fun requireHandler(): Handler =
        requireNotNull(handler) { "a push consumer needs a handler: handler { delivery -> ... } among its options" }

    internal fun toNative() =
        HandleOptions(
            group,
            subscriptions,
            lite,
            concurrency?.notNegative("concurrency")?.toULong(),
            maxCachedMessages?.notNegative("maxCachedMessages")?.toULong(),
            maxCachedBytes?.notNegative("maxCachedBytes")?.toULong(),
            invisibleDuration.toJava("invisibleDuration"),
            maxRate,
            maxBodySize?.notNegative("maxBodySize")?.toULong(),
        )
}

/** What handles messages, and where it runs. */
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
