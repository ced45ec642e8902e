package rocketmq.thin

import java.time.Duration as JavaDuration
import java.util.concurrent.CompletableFuture
import kotlin.time.Duration
import kotlin.time.toKotlinDuration
import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.withContext
import rocketmq.thin.NativeFunctions.rocketmq_thin_send
import rocketmq.thin.NativeFunctions.rocketmq_thin_send_all
import rocketmq.thin.internal.FfiConverterTypeOutgoingMessage
import rocketmq.thin.internal.FfiConverterTypeOutgoingMessages
import rocketmq.thin.internal.Outcome
import rocketmq.thin.internal.OutgoingMessages
import rocketmq.thin.internal.SendResult
import rocketmq.thin.internal.closeProducer
import rocketmq.thin.internal.recallMessage

/** Sends messages. Created by [Client.producer]. */
class Producer internal constructor(private val made: Outcome.Made) {
    /**
     * Sends a message and waits until the server has stored it. Concurrent sends share requests. A cancelled send may
     * still be delivered.
     *
     * @throws RocketMQException if the server refuses the message or does not answer; see
     *   [RocketMQException.maybeDelivered]
     */
    suspend fun send(message: Message): Receipt {
        val encoded = FfiConverterTypeOutgoingMessage.encode(message.toNative())
        val sent =
            Operations.await<Outcome.Sent>(this) { rocketmq_thin_send(made.key, encoded.array(), encoded.position()) }
        return Receipt(sent.message)
    }

    /** Sends several messages. The results are in the order of the messages. */
    suspend fun sendAll(messages: List<Message>): List<Result<Receipt>> {
        val encoded = FfiConverterTypeOutgoingMessages.encode(OutgoingMessages(messages.map { it.toNative() }))
        val sent =
            Operations.await<Outcome.AllSent>(this) {
                rocketmq_thin_send_all(made.key, encoded.array(), encoded.position())
            }
        return sent.results.map {
            when (it) {
                is SendResult.Stored -> Result.success(Receipt(it.message))
                is SendResult.Refused -> Result.failure(it.failure.toException())
            }
        }
    }

    /**
     * Takes back a delayed message that has not been delivered, by its [topic] and [Receipt.recallHandle]. Returns its
     * id.
     */
    suspend fun recall(topic: String, handle: String): String =
        Operations.await<Outcome.Text>(this) { recallMessage(made.key, topic, handle) }.text

    /** Accepts no more sends, and waits up to [deadline] (20 s) for outstanding ones. */
    suspend fun close(deadline: Duration? = null): CloseReport =
        CloseReport(Operations.await<Outcome.Closed>(this) { closeProducer(made.key, deadline.toJava("deadline")) })

    /** Runs [block] and then closes the producer. */
    suspend inline fun <R> use(block: (Producer) -> R): R =
        try {
            block(this)
        } finally {
            withContext(NonCancellable) { close() }
        }

    /** [send] for Java. */
    fun sendAsync(message: Message): CompletableFuture<Receipt> = future { send(message) }

    /** [sendAll] for Java. The futures in the list are completed, each with a receipt or a [RocketMQException]. */
    fun sendAllAsync(messages: List<Message>): CompletableFuture<List<CompletableFuture<Receipt>>> =
        future { sendAll(messages).map { it.toFuture() } }

    /** [recall] for Java. */
    fun recallAsync(topic: String, handle: String): CompletableFuture<String> = future { recall(topic, handle) }

    /** [close] for Java. */
    @JvmOverloads
    fun closeAsync(deadline: JavaDuration? = null): CompletableFuture<CloseReport> =
        future { close(deadline?.toKotlinDuration()) }
}
