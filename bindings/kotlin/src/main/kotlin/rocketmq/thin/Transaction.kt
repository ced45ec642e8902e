package rocketmq.thin

import java.util.concurrent.CompletableFuture
import rocketmq.thin.internal.Decision as NativeDecision
import rocketmq.thin.internal.OrphanCheckRecord
import rocketmq.thin.internal.Outcome
import rocketmq.thin.internal.commitTransaction
import rocketmq.thin.internal.rollbackTransaction
import rocketmq.thin.internal.sendHalf

/**
 * Messages that are delivered together with a local change, or not at all. Created by [Producer.begin] and
 * [Producer.transaction].
 *
 * If it is dropped without a decision, or the process dies, the server keeps its messages hidden and asks the checkers
 * of the topic's producers in any process; see [ProducerOptions.checker].
 */
class Transaction internal constructor(private val registered: Outcome.Registered, private val observers: Observers) {
    @Volatile private var decided = false

    /**
     * Sends a message that is delivered once the transaction is committed. A cancelled send may still be stored.
     *
     * @throws RocketMQException as [Producer.send]; `InvalidArgument` also for messages of another type, and after the
     *   decision
     */
    suspend fun send(message: Message): Receipt =
        observers.sending(message) { sent ->
            val native = sent.toNative()
            val outcome =
                withTextErrors(listOf(sent)) {
                    Operations.await<Outcome.Sent>(this) { sendHalf(registered.key, native) }
                }
            Receipt(outcome.message)
        }

    /**
     * Commits: the messages are delivered. Cancelling the coroutine cancels the wait, but not the commit.
     *
     * @throws RocketMQException `InvalidArgument` if the transaction is already decided; `Closed` if its producer is
     *   closed. After another failure, only another commit is possible; the server also asks the checkers.
     */
    suspend fun commit() {
        decided = true
        Operations.await<Outcome.Done>(this) { commitTransaction(registered.key) }
    }

    /**
     * Rolls back: the messages are dropped. Otherwise as [commit].
     *
     * @throws RocketMQException as [commit]
     */
    suspend fun rollback() {
        decided = true
        Operations.await<Outcome.Done>(this) { rollbackTransaction(registered.key) }
    }

    internal suspend fun commitUnlessDecided() {
        if (!decided) commit()
    }

    internal suspend fun rollbackUnlessDecided() {
        if (!decided) rollback()
    }

    /** [send] for Java. */
    fun sendAsync(message: Message): CompletableFuture<Receipt> = future { send(message) }

    /** [commit] for Java. */
    fun commitAsync(): CompletableFuture<Unit> = future { commit() }

    /** [rollback] for Java. */
    fun rollbackAsync(): CompletableFuture<Unit> = future { rollback() }
}

/** What happens to the messages of a transaction. */
enum class Decision(internal val native: NativeDecision) {
    /** The messages are delivered. */
    Commit(NativeDecision.COMMIT),

    /** The messages are dropped. */
    Rollback(NativeDecision.ROLLBACK),

    /** The decision is not known yet. The server asks again later. */
    Unknown(NativeDecision.UNKNOWN),
}

/** A request of the server for the decision about a message whose transaction was not decided in time. */
class OrphanCheck
internal constructor(
    /** The message, with its topic, body, tag, keys and properties. */
    val message: Message,
    /** The id of the message, which is also in its [Receipt]. */
    val messageId: String,
    /** The server's transaction id, which is also in the [Receipt]. */
    val transactionId: String,
) {
    internal constructor(
        check: OrphanCheckRecord
    ) : this(
        check.message.run { Message(topic, body, tag, keys, properties) },
        check.messageId,
        check.transactionId,
    )

    override fun toString() = "OrphanCheck($messageId of ${message.topic})"
}
