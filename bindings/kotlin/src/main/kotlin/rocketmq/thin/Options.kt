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

/** How a [Client] reaches and addresses its servers. What is left null has the client's default. */
class ClientOptions internal constructor(private val endpoints: String) {
    /** The namespace of every topic and group. */
    var namespace: String? = null

    /** Who we are to a server that asks. */
    var credentials: Credentials? = null

    /** Whether and how connections are encrypted. Endpoints written as `https://` are anyway. */
    var tls: Tls? = null

    /** How long one attempt waits for its answer (3 s). A long poll waits this much longer than it asked for. */
    var requestTimeout: Duration? = null

    /** How long a call may take, all attempts and pauses together (10 s). */
    var operationTimeout: Duration? = null

    /** How long connecting and making a producer or consumer may take (10 s). */
    var startupTimeout: Duration? = null

    /** The most attempts of one call; 1 never repeats. */
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
            requestTimeout?.toJavaDuration(),
            operationTimeout?.toJavaDuration(),
            startupTimeout?.toJavaDuration(),
            maxAttempts?.notNegative()?.toUInt(),
        )
}

/** An access key and its secret, as the server's administrator gave them out. */
class Credentials
@JvmOverloads
constructor(val accessKey: String, internal val secretKey: String, internal val sessionToken: String? = null) {
    /** The name the server knows, without the secrets. */
    override fun toString() = "Credentials($accessKey)"
}

/** How connections are encrypted. The server's certificate is always verified. */
class Tls private constructor(internal val encryption: Encryption) {
    companion object {
        /** Plaintext. */
        @JvmField val OFF = Tls(Encryption.Off)

        /** With the certificate authorities that the machine trusts. */
        @JvmField val SYSTEM_ROOTS = Tls(Encryption.SystemRoots)

        /** With these certificate authorities only: one or more certificates in PEM form. */
        @JvmStatic fun ca(pem: ByteArray) = Tls(Encryption.Ca(pem))
    }
}

/** What a [Producer] sends and how much of it at once. What is left null has the client's default. */
class ProducerOptions internal constructor() {
    /** Topics whose existence is checked before the producer is handed out. Others may be sent to as well. */
    var topics: List<String> = emptyList()

    /** The most messages under way; a send beyond waits for its turn. */
    var maxInFlightMessages: Int? = null

    /** The most bytes of bodies under way; a send beyond waits for its turn. */
    var maxInFlightBytes: Long? = null

    /** Sets [topics]. */
    fun topics(vararg names: String) = apply { topics = names.asList() }

    internal fun toNative() =
        SendOptions(
            topics,
            maxInFlightMessages?.notNegative()?.toULong(),
            maxInFlightBytes?.notNegative()?.toULong(),
        )
}

/** What a [SimpleConsumer] receives. What is left null has the client's default. */
class SimpleConsumerOptions internal constructor(private val group: String) {
    private val subscriptions = mutableListOf<TopicFilter>()

    /** The largest body after decompression, in bytes; a larger one is delivered as corrupted. */
    var maxBodySize: Long? = null

    /** Receives [topic]'s messages that pass [filter]. All members of a group must say the same here. */
    @JvmOverloads
    fun subscribe(topic: String, filter: Filter = Filter.ALL) =
        apply { subscriptions += TopicFilter(topic, filter.native) }

    internal fun toNative() = ConsumeOptions(group, subscriptions, maxBodySize?.notNegative()?.toULong())
}

/** Which messages of a topic. */
class Filter private constructor(internal val native: MessageFilter) {
    companion object {
        /** All. */
        @JvmField val ALL = Filter(MessageFilter.All)

        /** Those with one of these tags. */
        @JvmStatic fun tags(vararg tags: String) = Filter(MessageFilter.Tags(tags.asList()))

        /** Those whose properties satisfy this SQL-92 expression, such as `amount > 100 AND region = 'eu'`. */
        @JvmStatic fun sql(expression: String) = Filter(MessageFilter.Sql(expression))
    }
}

private fun <N : Number> N.notNegative(): N = also { require(toLong() >= 0) { "$this is negative" } }
