package rocketmq.thin

import java.time.Duration as JavaDuration
import java.util.concurrent.CompletableFuture
import kotlin.time.Duration
import kotlin.time.toKotlinDuration
import kotlinx.coroutines.Job
import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.withContext
import rocketmq.thin.NativeFunctions.rocketmq_thin_send
import rocketmq.thin.NativeFunctions.rocketmq_thin_send_all
import rocketmq.thin.internal.FfiConverterTypeOutgoingMessage
import rocketmq.thin.internal.FfiConverterTypeOutgoingMessages
import rocketmq.thin.internal.Outcome
import rocketmq.thin.internal.OutgoingMessages
import rocketmq.thin.internal.SendResult
import rocketmq.thin.internal.beginTransaction
import rocketmq.thin.internal.closeProducer
import rocketmq.thin.internal.recallMessage

/** Sends messages. Created by [Client.producer]. */
class Producer
internal constructor(
    private val registered: Outcome.Registered,
    private val endpoints: String,
    private val observers: Observers,
    /** Answers orphan checks, if there is a checker. */
    private val checkerJob: Job?,
) {
    /**
     * Sends a message and waits until the server has stored it. Concurrent sends share requests. A cancelled send may
     * still be delivered.
     *
     * @throws RocketMQException if the server refuses the message or does not answer; see
     *   [RocketMQException.maybeDelivered]
     * @throws IllegalArgumentException if a string in the message is null or not valid Unicode
     */
    suspend fun send(message: Message): Receipt =
        observers.sending(message) { sent ->
            val encoded = withTextErrors(listOf(sent)) { FfiConverterTypeOutgoingMessage.encode(sent.toNative()) }
            Receipt(
                Operations.await<Outcome.Sent>(this) {
                    rocketmq_thin_send(registered.key, encoded.array(), encoded.position())
                }.message
            )
        }

    /** Sends several messages. The results are in the order of the messages. */
    suspend fun sendAll(messages: List<Message>): List<Result<Receipt>> =
        observers.sendingAll(messages) { sent ->
            val encoded = withTextErrors(sent) {
                FfiConverterTypeOutgoingMessages.encode(OutgoingMessages(sent.map { it.toNative() }))
            }
            val outcome =
                Operations.await<Outcome.AllSent>(this) {
                    rocketmq_thin_send_all(registered.key, encoded.array(), encoded.position())
                }
            outcome.results.map {
                when (it) {
                    is SendResult.Stored -> Result.success(Receipt(it.message))
                    is SendResult.Failed -> Result.failure(it.failure.toException())
                }
            }
        }

    /**
     * Recalls a delayed message before it is delivered, by its [topic] and [Receipt.recallHandle]. Returns the message
     * id.
     *
     * @throws RocketMQException if the server refuses, for example because it is too late; `InvalidArgument` if [handle]
     *   is empty
     */
    suspend fun recall(topic: String, handle: String): String =
        Operations.await<Outcome.Text>(this) { recallMessage(registered.key, topic, handle) }.text

    /**
     * Recalls a delayed message before it is delivered. Returns the message id.
     *
     * @throws RocketMQException if the server refuses, for example because it is too late; `InvalidArgument` if [receipt]
     *   has no recall handle, because the message is not delayed
     */
    suspend fun recall(receipt: Receipt): String =
        // The client refuses an empty handle.
        recall(receipt.topic, receipt.recallHandle.orEmpty())

    /**
     * Begins a transaction. Nothing is sent yet. See also [transaction].
     *
     * @throws RocketMQException `Closed` if the producer is closed
     */
    fun begin(): Transaction =
        Transaction(Operations.call<Outcome.Registered>(this) { beginTransaction(registered.key) }, observers)

    /**
     * Runs [block] in a transaction. The transaction is committed when [block] returns, and rolled back if [block]
     * throws or is cancelled, unless [block] has already decided.
     *
     * ```
     * producer.transaction {
     *     send(Message("payments", "payment 1"))
     *     repository.save(payment)
     * }
     * ```
     *
     * @throws RocketMQException if the commit fails; the server then asks the checkers
     */
    suspend fun <R> transaction(block: suspend Transaction.() -> R): R {
        val transaction = begin()
        val result =
            try {
                transaction.block()
            } catch (e: Throwable) {
                withContext(NonCancellable) {
                    runCatching { transaction.rollbackUnlessDecided() }.onFailure(e::addSuppressed)
                }
                throw e
            }
        transaction.commitUnlessDecided()
        return result
    }

    /**
     * Accepts no more sends, and waits up to [deadline] (default: 20 s) for outstanding sends. Transactions that are
     * undecided after the close can no longer be decided by this producer. The server asks a checker about them.
     */
    suspend fun close(deadline: Duration? = null): CloseReport {
        val native = deadline.toJava("deadline")
        val closed = Operations.await<Outcome.Closed>(this) { closeProducer(registered.key, native) }
        checkerJob?.cancel()
        return CloseReport(closed)
    }

    /** Runs [block] and then closes the producer. */
    suspend inline fun <R> use(block: (Producer) -> R): R =
        try {
            block(this)
        } finally {
            withContext(NonCancellable) { close() }
        }

    override fun toString() = "Producer($endpoints)"

    /** [send] for Java. */
    fun sendAsync(message: Message): CompletableFuture<Receipt> = future { send(message) }

    /** [sendAll] for Java. Each future in the list is completed with a receipt or a [RocketMQException]. */
    fun sendAllAsync(messages: List<Message>): CompletableFuture<List<CompletableFuture<Receipt>>> =
        future { sendAll(messages).map { it.toFuture() } }

    /** [recall] for Java. */
    fun recallAsync(topic: String, handle: String): CompletableFuture<String> = future { recall(topic, handle) }

    /** [recall] for Java. */
    fun recallAsync(receipt: Receipt): CompletableFuture<String> = future { recall(receipt) }

    /** [close] for Java. */
    @JvmOverloads
    fun closeAsync(deadline: JavaDuration? = null): CompletableFuture<CloseReport> =
        future { close(deadline?.toKotlinDuration()) }
}
