package rocketmq.thin

import java.time.Duration as JavaDuration
import kotlin.time.Duration
import kotlin.time.toKotlinDuration

/** The result of a [PushConsumer]'s handler: what happens to the message. A handler that throws means [Retry]. */
sealed interface ConsumeResult {
    /** The message is acknowledged. */
    data object Ack : ConsumeResult

    /** The message is delivered again, according to the retry policy of the group. */
    data object Retry : ConsumeResult

    /** The message is delivered again after the time [after]. */
    data class RetryAfter(val after: Duration) : ConsumeResult {
        init {
            after.notNegative("after")
        }
    }

    /** The message moves to the dead-letter topic, whose name is `%DLQ%` and the name of the group. */
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

/**
 * Handles a message in a thread, which it may block. The thread is interrupted if it runs longer than a close waits.
 */
fun interface BlockingHandler {
    /** Handles a message. An exception means [ConsumeResult.Retry]. */
    @Throws(Exception::class)
    fun handle(delivery: Delivery): ConsumeResult
}
