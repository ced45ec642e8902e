package rocketmq.thin

import java.time.Duration as JavaDuration
import kotlin.time.Duration
import kotlin.time.toKotlinDuration

/** What happens to a message that a handler of a [PushConsumer] has seen. A handler that throws means [Retry]. */
sealed interface ConsumeResult {
    /** The message is done. */
    data object Ack : ConsumeResult

    /** The message is delivered again, when the policy of the group says so. */
    data object Retry : ConsumeResult

    /** The message is delivered again after this time. */
    data class RetryAfter(val after: Duration) : ConsumeResult {
        init {
            after.notNegative("after")
        }
    }

    /** The message moves to the dead-letter topic: `%DLQ%` and the name of the group. */
    data object DeadLetter : ConsumeResult

    companion object {
        /** [Ack] for Java. */
        @JvmField val ACK: ConsumeResult = Ack

        /** [Retry] for Java. */
        @JvmField val RETRY: ConsumeResult = Retry

        /** [DeadLetter] for Java. */
        @JvmField val DEAD_LETTER: ConsumeResult = DeadLetter

        /** [RetryAfter] for Java. */
        @JvmStatic fun retryAfter(after: JavaDuration): ConsumeResult = RetryAfter(after.toKotlinDuration())
    }
}

/** Handles a message in a thread of its own, which it may block. It is interrupted if it runs longer than a close waits. */
fun interface BlockingHandler {
    /** Handles a message. What it throws means [ConsumeResult.Retry]. */
    @Throws(Exception::class)
    fun handle(delivery: Delivery): ConsumeResult
}
