package rocketmq.thin

import java.time.Instant
import kotlin.time.Duration
import kotlin.time.toKotlinDuration
import rocketmq.thin.internal.Hold
import rocketmq.thin.internal.IncomingMessage
import rocketmq.thin.internal.Outcome
import rocketmq.thin.internal.OutgoingMessage
import rocketmq.thin.internal.SentMessage

/** A message to send: `Message("orders", "hello", tag = "new", keys = listOf("42"))`. */
class Message
@JvmOverloads
constructor(
    /** The topic it goes to. */
    val topic: String,
    /** Its content; servers refuse an empty one and, by default, one above 4 MiB. */
    val body: ByteArray,
    /** One word to filter by. */
    val tag: String? = null,
    /** Words to find it by. A server splits a key at spaces. */
    val keys: List<String> = emptyList(),
    /** Names and values of the application's own. */
    val properties: Map<String, String> = emptyMap(),
) {
    /** A message of text in UTF-8. */
    @JvmOverloads
    constructor(
        topic: String,
        text: String,
        tag: String? = null,
        keys: List<String> = emptyList(),
        properties: Map<String, String> = emptyMap(),
    ) : this(topic, text.encodeToByteArray(), tag, keys, properties)

    override fun toString() = "Message($topic, ${body.size} bytes)"

    internal fun toNative() = OutgoingMessage(topic, body, tag, keys, properties)
}

/** The server's word that a message is stored. */
data class Receipt(
    /** The message's id, which its deliveries carry. */
    val messageId: String,
    /** The topic it went to. */
    val topic: String,
    /** Its place in its queue, or -1 when the server didn't say. */
    val queueOffset: Long,
    /** The server's transaction id; servers fill it for plain messages too. */
    val transactionId: String,
) {
    internal constructor(sent: SentMessage) : this(sent.messageId, sent.topic, sent.queueOffset, sent.transactionId)
}

/** A message as received: what was sent, where it stood, and the lease on it. */
class Delivery
internal constructor(
    private val message: IncomingMessage,
    /** The library knows the lease as long as this is reachable. */
    @Suppress("unused") private val hold: Hold,
) {
    internal val key get() = message.key

    /** The id its [Receipt] named. */
    val messageId: String get() = message.messageId

    /** The topic. */
    val topic: String get() = message.topic

    /** The content, decompressed; as it came over the wire when [corrupted]. */
    val body: ByteArray get() = message.body

    /** The tag. */
    val tag: String? get() = message.tag

    /** The keys. */
    val keys: List<String> get() = message.keys

    /** The application's properties, sorted by name. */
    val properties: Map<String, String> get() = message.properties

    /** The group within which the order of messages is kept. */
    val messageGroup: String? get() = message.messageGroup

    /** When the sender made it. */
    val bornAt: Instant? get() = message.bornAt

    /** Where the sender ran. */
    val bornHost: String get() = message.bornHost

    /** When the server stored it. */
    val storedAt: Instant? get() = message.storedAt

    /** How many times it has been delivered, this time included. */
    val attempt: Int get() = message.attempt

    /** Whether the body failed its digest or could not be decompressed. */
    val corrupted: Boolean get() = message.corrupted

    /** The queue. */
    val queueId: Int get() = message.queueId

    /** The place in the queue. */
    val queueOffset: Long get() = message.queueOffset

    override fun toString() = "Delivery($messageId of $topic, attempt $attempt, ${body.size} bytes)"
}

/** What a bounded close did. */
data class CloseReport(
    /** Sends and acks that were still under way and got their answer. */
    val flushed: Long,
    /** Sends and acks that had no answer at the deadline; each failed with [RocketMQException.Closed]. */
    val abandoned: Long,
    /** How long the close took. */
    val elapsed: Duration,
) {
    internal constructor(closed: Outcome.Closed) :
        this(closed.flushed, closed.abandoned, closed.elapsed.toKotlinDuration())
}
