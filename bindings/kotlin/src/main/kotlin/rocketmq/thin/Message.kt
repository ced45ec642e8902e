package rocketmq.thin

import java.time.Duration as JavaDuration
import java.time.Instant
import kotlin.time.Duration
import kotlin.time.toJavaDuration
import kotlin.time.toKotlinDuration
import rocketmq.thin.internal.IncomingMessage
import rocketmq.thin.internal.Outcome
import rocketmq.thin.internal.OutgoingMessage
import rocketmq.thin.internal.RegistryGuard
import rocketmq.thin.internal.SentMessage
import rocketmq.thin.internal.isLeaseLost

/**
 * A message to send: `Message("orders", "hello", tag = "new", keys = listOf("42"))`.
 *
 * It is a normal message unless one of [messageGroup], [deliverAt], [delay], [priority] and [liteTopic] is set. A send
 * of a message that has several types fails with [RocketMQException.InvalidArgument].
 */
class Message
@JvmOverloads
constructor(
    /** The topic. */
    val topic: String,
    /** The content. Servers refuse an empty body and, by default, a body above 4 MiB. */
    val body: ByteArray,
    /** A tag that consumers can filter by. Default: none. */
    val tag: String? = null,
    /** Keys by which the message can be found. Servers split a key at spaces. Default: none. */
    val keys: List<String> = emptyList(),
    /** The application's own properties. Default: none. */
    val properties: Map<String, String> = emptyMap(),
) {
    /** Creates a message whose body is [text] in UTF-8. */
    @JvmOverloads
    constructor(
        topic: String,
        text: String,
        tag: String? = null,
        keys: List<String> = emptyList(),
        properties: Map<String, String> = emptyMap(),
    ) : this(topic, text.encodeToByteArray(), tag, keys, properties)

    /** The message group of a FIFO message. Default: none. */
    var messageGroup: String? = null
        private set

    /** When a delayed message is delivered. Default: at once. */
    var deliverAt: Instant? = null
        private set

    /** How long after the send the message is delivered. Default: none. */
    var delay: Duration? = null
        private set

    /** The priority of a message. Default: none. */
    var priority: Int? = null
        private set

    /** The lite topic within [topic]. Default: none. */
    var liteTopic: String? = null
        private set

    /** Returns a FIFO message: messages of one [group] are delivered in the order in which they were sent. */
    fun messageGroup(group: String): Message = copy { messageGroup = group }

    /** Returns a delayed message that is delivered at [time], or at once if that is in the past. */
    fun deliverAt(time: Instant): Message = copy { deliverAt = time }

    /** Returns a delayed message that is delivered [delay] after the call of send. */
    fun delay(delay: Duration): Message = copy { this.delay = delay.notNegative("delay") }

    /** Returns a delayed message, see [delay]. */
    fun delay(delay: JavaDuration): Message = delay(delay.toKotlinDuration())

    /** Returns a message with a priority of 0 or more. Messages with a higher priority are delivered first. */
    fun priority(priority: Int): Message = copy { this.priority = priority }

    /** Returns a message for a lite topic within [topic]. */
    fun liteTopic(liteTopic: String): Message = copy { this.liteTopic = liteTopic }

    /** Returns a copy of the message with a further property. */
    fun property(name: String, value: String): Message = copy(properties + (name to value)) {}

    internal fun copy(properties: Map<String, String> = this.properties, change: Message.() -> Unit): Message {
        val copy = Message(topic, body, tag, keys, properties)
        copy.messageGroup = messageGroup
        copy.deliverAt = deliverAt
        copy.delay = delay
        copy.priority = priority
        copy.liteTopic = liteTopic
        return copy.apply(change)
    }

    override fun toString() = "Message($topic, ${body.size} bytes)"

    /**
     * Throws if a text of the message cannot be sent: null, which Java allows, or a lone surrogate, which is not
     * Unicode.
     */
    internal fun requireText() {
        requireText("topic", topic)
        tag?.let { requireText("tag", it) }
        keys.forEachIndexed { index, key -> requireText("keys[$index]", key) }
        properties.forEach { (name, value) ->
            requireText("name of a property", name)
            requireText("property $name", value)
        }
        messageGroup?.let { requireText("messageGroup", it) }
        liteTopic?.let { requireText("liteTopic", it) }
    }

    private fun requireText(field: String, text: String?) {
        requireNotNull(text) { "the message's $field must not be null" }
        require(Charsets.UTF_8.newEncoder().canEncode(text)) { "the message's $field must be Unicode: it contains a lone surrogate" }
    }

    internal fun toNative() =
        OutgoingMessage(
            topic,
            body,
            tag,
            keys,
            properties,
            messageGroup,
            deliverAt,
            delay?.toJavaDuration(),
            priority,
            liteTopic,
        )
}

/** Runs [encode]. If a text of [messages] cannot be sent, throws an error that names it. */
internal inline fun <T> withTextErrors(messages: List<Message>, encode: () -> T): T =
    try {
        encode()
    } catch (e: Exception) {
        // Checked only after a failure, because the check takes time for each message.
        messages.forEach { it.requireText() }
        throw e
    }

/** The confirmation that a message is stored. */
data class Receipt(
    /** The id of the message. Its deliveries have the same id. */
    val messageId: String,
    /** The topic. */
    val topic: String,
    /** The offset in the queue, or -1 if the server did not return it. */
    val queueOffset: Long,
    /** The server's transaction id. Servers set it for normal messages, too. */
    val transactionId: String,
    /** The handle for [Producer.recall] of a delayed message; null for other messages. */
    val recallHandle: String? = null,
) {
    internal constructor(
        sent: SentMessage
    ) : this(sent.messageId, sent.topic, sent.queueOffset, sent.transactionId, sent.recallHandle)
}

/** A received message. It is invisible to other consumers until it is acknowledged or its invisible time expires. */
class Delivery
internal constructor(
    internal val message: IncomingMessage,
    /** Keeps the delivery in the native library as long as this object is reachable. */
    @Suppress("unused") private val guard: RegistryGuard,
) {
    internal val key get() = message.key

    /** The id of the message, the same as in the sender's [Receipt]. */
    val messageId: String get() = message.messageId

    /** The topic. */
    val topic: String get() = message.topic

    /** The decompressed content. If the delivery is [corrupted], this is the body as received. */
    val body: ByteArray get() = message.body

    /** The tag. */
    val tag: String? get() = message.tag

    /** The keys. */
    val keys: List<String> get() = message.keys

    /** The application's properties, sorted by name. */
    val properties: Map<String, String> get() = message.properties

    /** The message group of a FIFO message. Messages of one group are delivered in order. */
    val messageGroup: String? get() = message.messageGroup

    /** The time for which the sender scheduled a delayed message, if the server reports it. */
    val deliverAt: Instant? get() = message.deliverAt

    /** The priority of a message with a priority. */
    val priority: Int? get() = message.priority

    /** The lite topic, if [topic] has lite topics. */
    val liteTopic: String? get() = message.liteTopic

    /** For a dead letter: the original message, if the server reports it. */
    val deadLetterOrigin: DeadLetterOrigin? get() = message.deadLetterOrigin?.run { DeadLetterOrigin(topic, messageId) }

    /** The W3C trace context of the sender: its `traceparent`. */
    val traceParent: String? get() = message.traceParent

    /** When the sender created the message. */
    val bornAt: Instant? get() = message.bornAt

    /** The sender's host. */
    val bornHost: String get() = message.bornHost

    /** When the server stored the message. */
    val storedAt: Instant? get() = message.storedAt

    /** How many times the message has been delivered, including this time. */
    val attempt: Int get() = message.attempt

    /** Whether the body does not match its digest or could not be decompressed. */
    val corrupted: Boolean get() = message.corrupted

    /** Whether the lease ended before the delivery was settled. Then the message is delivered again. */
    val isLeaseLost: Boolean get() = keepReachable(this) { isLeaseLost(key) }

    /** The id of the queue. */
    val queueId: Int get() = message.queueId

    /** The offset in the queue. */
    val queueOffset: Long get() = message.queueOffset

    override fun toString() = "Delivery($messageId of $topic, attempt $attempt, ${body.size} bytes)"
}

/** The original message of a dead letter. */
data class DeadLetterOrigin(
    /** The topic of the original message. */
    val topic: String,
    /** The id of the original message. */
    val messageId: String,
)

/** What happened during a close. */
data class CloseReport(
    /** The number of outstanding sends and acks that were completed. */
    val flushed: Long,
    /**
     * The number of sends and acks without an answer at the deadline, and of messages whose handlers were still
     * running. The sends and acks failed with [RocketMQException.Closed], and the messages are delivered again.
     */
    val abandoned: Long,
    /** For push consumers: the number of messages that were being handled, and were settled in time. */
    val handled: Long,
    /** For consumers: the number of messages that were given back to the server unhandled. */
    val givenBack: Long,
    /** How long the close took. */
    val elapsed: Duration,
) {
    internal constructor(closed: Outcome.Closed) :
        this(
            closed.flushed,
            closed.abandoned,
            closed.handled,
            closed.givenBack,
            closed.elapsed.toKotlinDuration(),
        )
}
