package rocketmq.thin

import java.util.Objects.requireNonNull
import java.util.function.Function
import kotlinx.coroutines.runInterruptible
import rocketmq.thin.internal.SendOptions

/** The topics of a [Producer], and limits for concurrent sends. An option that is null has its default. */
class ProducerOptions internal constructor() {
    /** Topics that must exist when the producer is created. It may send to other topics, too. Default: none. */
    var topics: List<String> = emptyList()

    /** The maximum number of messages being sent. Further sends wait. Default: 4096. */
    var maxInFlightMessages: Int? = null

    /** The maximum total size of the bodies being sent, in bytes. Further sends wait. Default: 64 MiB. */
    var maxInFlightBytes: Long? = null

    /** Bodies larger than this, in bytes, are compressed. Default: no body is compressed. */
    var compressAbove: Long? = null

    internal var checker: (suspend (OrphanCheck) -> Decision)? = null
        private set

    /** Sets [topics]. */
    fun topics(vararg names: String) = apply { topics = names.toList() }

    /**
     * Sets the checker, which decides about transactions that were neither committed nor rolled back in time. A
     * transaction may come from another producer of the topic or from a process that has ended, so the checker must
     * read durable state. If it throws, takes longer than a minute, or returns [Decision.Unknown], the server asks
     * again. Several checks run at the same time.
     */
    fun checker(checker: suspend (OrphanCheck) -> Decision) = apply { this.checker = checker }

    /** [checker] for Java: a function that may block. It is interrupted when it takes too long. */
    fun blockingChecker(checker: Function<OrphanCheck, Decision>) =
        checker { check ->
            // A checker in Java may return null.
            runInterruptible { requireNonNull(checker.apply(check), "a checker must return a Decision") }
        }

    /** [maxInFlightMessages] for Java. */
    fun maxInFlightMessages(limit: Int) = apply { maxInFlightMessages = limit }

    /** [maxInFlightBytes] for Java. */
    fun maxInFlightBytes(limit: Long) = apply { maxInFlightBytes = limit }

    /** [compressAbove] for Java. */
    fun compressAbove(size: Long) = apply { compressAbove = size }

    internal fun toNative() =
        SendOptions(
            topics,
            maxInFlightMessages.toNative("maxInFlightMessages"),
            maxInFlightBytes.toNative("maxInFlightBytes"),
            compressAbove.toNative("compressAbove"),
        )
}
