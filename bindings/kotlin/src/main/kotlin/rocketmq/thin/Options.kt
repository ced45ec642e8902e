package rocketmq.thin

import java.time.Duration as JavaDuration
import kotlin.time.Duration
import kotlin.time.toJavaDuration
import kotlin.time.toKotlinDuration
import rocketmq.thin.internal.AccessKey
import rocketmq.thin.internal.ConnectOptions
import rocketmq.thin.internal.ConsumeOptions
import rocketmq.thin.internal.Encryption
import rocketmq.thin.internal.MessageFilter
import rocketmq.thin.internal.SendOptions
import rocketmq.thin.internal.TopicFilter

/** How a [Client] connects to its servers. An option that is null has its default, which is given in parentheses. */
class ClientOptions internal constructor(private val endpoints: String) {
    /** The namespace of every topic and group (none). */
    var namespace: String? = null

    /** The credentials that requests are signed with (none). */
    var credentials: Credentials? = null

    /** The encryption of connections ([Tls.OFF], except for `https://` endpoints). */
    var tls: Tls? = null

    /** The timeout of one attempt (3 s). A receive waits this much longer than its `awaitDuration`. */
    var requestTimeout: Duration? = null

    /** The timeout of one call, including all retries (10 s). */
    var operationTimeout: Duration? = null

    /** The timeout for connecting, and for creating a producer or consumer (10 s). */
    var startupTimeout: Duration? = null

    /** The maximum number of attempts of one call (16). 1 turns retries off. */
    var maxAttempts: Int? = null

    /** [requestTimeout] for Java. */
    fun requestTimeout(limit: JavaDuration) = apply { requestTimeout = limit.toKotlinDuration() }

    /** [operationTimeout] for Java. */
    fun operationTimeout(limit: JavaDuration) = apply { operationTimeout = limit.toKotlinDuration() }

    /** [startupTimeout] for Java. */
    fun startupTimeout(limit: JavaDuration) = apply { startupTimeout = limit.toKotlinDuration() }

    internal fun toNative() =
        ConnectOptions(
            endpoints,
            namespace,
            credentials?.run { AccessKey(accessKey, secretKey, sessionToken) },
            tls?.encryption,
            requestTimeout.toJava("requestTimeout"),
            operationTimeout.toJava("operationTimeout"),
            startupTimeout.toJava("startupTimeout"),
            maxAttempts?.notNegative("maxAttempts")?.toUInt(),
        )
}

/** An access key and its secret, as issued by the server's administrator. */
class Credentials
@JvmOverloads
constructor(val accessKey: String, internal val secretKey: String, internal val sessionToken: String? = null) {
    /** The access key, without the secrets. */
    override fun toString() = "Credentials($accessKey)"
}

/** The encryption of connections. The server's certificate is always verified. */
class Tls private constructor(internal val encryption: Encryption) {
    companion object {
        /** Plaintext. */
        @JvmField val OFF = Tls(Encryption.Off)

        /** TLS with the certificate authorities of the operating system. */
        @JvmField val SYSTEM_ROOTS = Tls(Encryption.SystemRoots)

        /** TLS with these certificate authorities only: one or more certificates in PEM format. */
        @JvmStatic fun ca(pem: ByteArray) = Tls(Encryption.Ca(pem))
    }
}

/** Which topics a [Producer] sends to, and how much it sends at once. An option that is null has its default. */
class ProducerOptions internal constructor() {
    /** Topics that must exist when the producer is created (none). It may send to other topics, too. */
    var topics: List<String> = emptyList()

    /** The maximum number of messages being sent (4096). Further sends wait. */
    var maxInFlightMessages: Int? = null

    /** The maximum total size of the bodies being sent, in bytes (64 MiB). Further sends wait. */
    var maxInFlightBytes: Long? = null

    /** Sets [topics]. */
    fun topics(vararg names: String) = apply { topics = names.asList() }

    internal fun toNative() =
        SendOptions(
            topics,
            maxInFlightMessages?.notNegative("maxInFlightMessages")?.toULong(),
            maxInFlightBytes?.notNegative("maxInFlightBytes")?.toULong(),
        )
}

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
