package rocketmq.thin

import java.time.Duration as JavaDuration
import java.time.Instant
import kotlin.time.Duration
import kotlin.time.toJavaDuration
import kotlin.time.toKotlinDuration
import rocketmq.thin.internal.Hold
import rocketmq.thin.internal.IncomingMessage
import rocketmq.thin.internal.Outcome
import rocketmq.thin.internal.OutgoingMessage
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
    /** The content. Servers refuse an empty one and, by default, one above 4 MiB. */
    val body: ByteArray,
    /** A tag that consumers can filter by. Default: none. */
    val tag: String? = null,
    /** Keys that the message can be looked up by. Servers split a key at spaces. Default: none. */
    val keys: List<String> = emptyList(),
    /** The application's own properties. Default: none. */
    val properties: Map<String, String> = emptyMap(),
) {
    /** A message whose body is [text] in UTF-8. */
    @JvmOverloads
    constructor(
        topic: String,
        text: String,
        tag: String? = null,
        keys: List<String> = emptyList(),
        properties: Map<String, String> = emptyMap(),
    ) : this(topic, text.encodeToByteArray(), tag, keys, properties)

    /** The group of a FIFO message. Default: none. */
    var messageGroup: String? = null
        private set

    /** When a delayed message is delivered. Default: at once. */
    var deliverAt: Instant? = null
        private set

    /** The time from the call of send to the delivery of a delayed message. Default: none. */
    var delay: Duration? = null
        private set

    /** The priority of a message. Default: none. */
    var priority: Int? = null
        private set

    /** The lite topic below [topic]. Default: none. */
    var liteTopic: String? = null
        private set

    /** A FIFO message: messages of one [group] are delivered in the order in which they were sent. */
    fun messageGroup(group: String): Message = copy { messageGroup = group }

    /** A delayed message that is delivered at [time], or at once if that is in the past. */
    fun deliverAt(time: Instant): Message = copy { deliverAt = time }

    /** A delayed message that is delivered [delay] after the call of send. */
    fun delay(delay: Duration): Message = copy { this.delay = delay.notNegative("delay") }

    /** [delay] for Java. */
    fun delay(delay: JavaDuration): Message = delay(delay.toKotlinDuration())

    /** A message with a priority: 0 or more, the highest first. */
    fun priority(priority: Int): Message = copy { this.priority = priority }

    /** A message to a lite topic below its topic. */
    fun liteTopic(liteTopic: String): Message = copy { this.liteTopic = liteTopic }

    /** A copy of the message with one more of its [properties]. */
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

    /** Refuses texts that cannot be sent: null from Java, or a half of a surrogate pair, which is no Unicode. */
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
        require(Charsets.UTF_8.newEncoder().canEncode(text)) { "the message's $field must be Unicode: it holds a lone surrogate" }
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

/** What [encode] makes of [messages]. If it fails because of a text of theirs, the error names that. */
internal inline fun <T> encoding(messages: List<Message>, encode: () -> T): T =
    try {
        encode()
    } catch (e: Exception) {
        // Not before: it would take time for each message.
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
    /** The handle with which [Producer.recall] takes a delayed message back; null for other messages. */
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
    /** Keeps the delivery in the native library as long as it is reachable. */
    @Suppress("unused") private val hold: Hold,
) {
    internal val key get() = message.key

    /** The id of the message, the same as in the sender's [Receipt]. */
    val messageId: String get() = message.messageId

    /** The topic. */
    val topic: String get() = message.topic

    /** The decompressed content. If [corrupted], the bytes as received. */
    val body: ByteArray get() = message.body

    /** The tag. */
    val tag: String? get() = message.tag

    /** The keys. */
    val keys: List<String> get() = message.keys

    /** The application's properties, sorted by name. */
    val properties: Map<String, String> get() = message.properties

    /** The group of a FIFO message. Messages of one group are delivered in order. */
    val messageGroup: String? get() = message.messageGroup

    /** The time for which the sender scheduled a delayed message, if the server reports it. */
    val deliverAt: Instant? get() = message.deliverAt

    /** The priority, in topics with priorities. */
    val priority: Int? get() = message.priority

    /** The lite topic below [topic], in lite topics. */
    val liteTopic: String? get() = message.liteTopic

    /** What the message was before it became a dead letter, if the server reports it. */
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

    /** Whether its lease has ended before it was settled, so that the message is delivered again. */
    val isLeaseLost: Boolean get() = keeping(this) { isLeaseLost(key) }

    /** The id of the queue. */
    val queueId: Int get() = message.queueId

    /** The offset in the queue. */
    val queueOffset: Long get() = message.queueOffset

    override fun toString() = "Delivery($messageId of $topic, attempt $attempt, ${body.size} bytes)"
}

/** The message that became a dead letter. */
data class DeadLetterOrigin(
    /** Its topic. */
    val topic: String,
    /** Its id there. */
    val messageId: String,
)

/** The result of a close. */
data class CloseReport(
    /** How many outstanding sends and acks were completed. */
    val flushed: Long,
    /** How many sends and acks had no answer at the deadline. Each failed with [RocketMQException.Closed]. */
    val abandoned: Long,
    /** In push consumers, how many messages were being handled and were settled in time. */
    val handled: Long,
    /** In push consumers, how many messages no handler had begun, so that they were given back to the server. */
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
