package rocketmq.thin

import java.time.Duration as JavaDuration
import kotlin.time.Duration
import kotlin.time.toJavaDuration
import rocketmq.thin.internal.ConsumeOptions
import rocketmq.thin.internal.MessageFilter
import rocketmq.thin.internal.TopicFilter

/** What a [SimpleConsumer] receives. An option that is null has its default. */
class SimpleConsumerOptions internal constructor(private val group: String) {
    private val subscriptions = mutableListOf<TopicFilter>()

    /** The maximum size of a decompressed body, in bytes (64 MiB). A larger one is delivered as corrupted. */
    var maxBodySize: Long? = null

    /** Subscribes to the messages of [topic] that match [filter]. All members of a group must have the same. */
    @JvmOverloads
    fun subscribe(topic: String, filter: Filter = Filter.ALL) =
        apply { subscriptions += TopicFilter(topic, filter.native) }

    internal fun toNative() =
        ConsumeOptions(group, subscriptions, maxBodySize?.notNegative("maxBodySize")?.toULong())
}

/** Selects messages of a topic. */
class Filter private constructor(internal val native: MessageFilter) {
    companion object {
        /** All messages. */
        @JvmField val ALL = Filter(MessageFilter.All)

        /** Messages with one of these tags. */
        @JvmStatic fun tags(vararg tags: String) = Filter(MessageFilter.Tags(tags.asList()))

        /** Messages whose properties match this SQL-92 expression, such as `amount > 100 AND region = 'eu'`. */
        @JvmStatic fun sql(expression: String) = Filter(MessageFilter.Sql(expression))
    }
}

internal fun <N : Number> N.notNegative(argument: String): N = also {
    require(toLong() >= 0) { "$argument must not be negative: $this" }
}

internal fun Duration.notNegative(argument: String): Duration = also {
    require(!isNegative()) { "$argument must not be negative: $this" }
}

internal fun Duration?.toJava(argument: String): JavaDuration? = this?.notNegative(argument)?.toJavaDuration()
