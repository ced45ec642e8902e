package rocketmq.thin

import java.time.Duration as JavaDuration
import java.time.Instant
import kotlin.time.Duration
import kotlin.time.toKotlinDuration
import rocketmq.thin.internal.Hold
import rocketmq.thin.internal.IncomingMessage
import rocketmq.thin.internal.Outcome
import rocketmq.thin.internal.OutgoingMessage
import rocketmq.thin.internal.SentMessage

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
    /** A tag that consumers can filter by (none). */
    val tag: String? = null,
    /** Keys that the message can be looked up by (none). Servers split a key at spaces. */
    val keys: List<String> = emptyList(),
    /** The application's own properties (none). */
    val properties: Map<String, String> = emptyMap(),
) {
    /** A message with a text, which is sent as UTF-8. */
    @JvmOverloads
    constructor(
        topic: String,
        text: String,
        tag: String? = null,
        keys: List<String> = emptyList(),
        properties: Map<String, String> = emptyMap(),
    ) : this(topic, text.encodeToByteArray(), tag, keys, properties)

    private var group: String? = null
    private var time: Instant? = null
    private var wait: JavaDuration? = null
    private var level: Int? = null
    private var lite: String? = null

    /** A FIFO message: messages of one [group] are delivered in the order in which they were sent. */
    fun messageGroup(group: String): Message = copy { this.group = group }

    /** A delayed message that is delivered at [time], or at once if that is in the past. */
    fun deliverAt(time: Instant): Message = copy { this.time = time }

    /** A delayed message that is delivered [delay] after the call of send. */
    fun delay(delay: Duration): Message = copy { wait = delay.toJava("delay") }

    /** [delay] for Java. */
    fun delay(delay: JavaDuration): Message = delay(delay.toKotlinDuration())

    /** A message with a priority: 0 or more, the highest first. */
    fun priority(priority: Int): Message = copy { level = priority }

    /** A message to a lite topic below its topic. */
    fun liteTopic(liteTopic: String): Message = copy { lite = liteTopic }

    private fun copy(change: Message.() -> Unit): Message {
        val copy = Message(topic, body, tag, keys, properties)
        copy.group = group
        copy.time = time
        copy.wait = wait
        copy.level = level
        copy.lite = lite
        return copy.apply(change)
    }

    override fun toString() = "Message($topic, ${body.size} bytes)"

    internal fun toNative() = OutgoingMessage(topic, body, tag, keys, properties, group, time, wait, level, lite)
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
    /** What [Producer.recall] needs to take a delayed message back, or null for other messages. */
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
    /** The library knows the delivery as long as this is reachable. */
    @Suppress("unused") private val hold: Hold,
) {
    internal val key get() = message.key

    /** The id that the sender's [Receipt] has, too. */
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

    /** When the sender asked for the delivery of a delayed message, if the server reports it. */
    val deliverAt: Instant? get() = message.deliverAt

    /** The priority, in topics with priorities. */
    val priority: Int? get() = message.priority

    /** The lite topic below [topic], in lite topics. */
    val liteTopic: String? get() = message.liteTopic

    /** When the sender created it. */
    val bornAt: Instant? get() = message.bornAt

    /** The sender's host. */
    val bornHost: String get() = message.bornHost

    /** When the server stored it. */
    val storedAt: Instant? get() = message.storedAt

    /** How many times it has been delivered, including this time. */
    val attempt: Int get() = message.attempt

    /** Whether the body does not match its digest or could not be decompressed. */
    val corrupted: Boolean get() = message.corrupted

    /** The id of the queue. */
    val queueId: Int get() = message.queueId

    /** The offset in the queue. */
    val queueOffset: Long get() = message.queueOffset

    override fun toString() = "Delivery($messageId of $topic, attempt $attempt, ${body.size} bytes)"
}

/** The result of a close. */
data class CloseReport(
    /** How many outstanding sends and acks were completed. */
    val flushed: Long,
    /** How many sends and acks had no answer at the deadline. Each failed with [RocketMQException.Closed]. */
    val abandoned: Long,
    /** How long the close took. */
    val elapsed: Duration,
) {
    internal constructor(closed: Outcome.Closed) :
        this(closed.flushed, closed.abandoned, closed.elapsed.toKotlinDuration())
}
