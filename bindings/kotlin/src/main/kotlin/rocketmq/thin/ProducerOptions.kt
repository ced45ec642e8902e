package rocketmq.thin

import java.util.Objects.requireNonNull
import java.util.function.Function
import kotlinx.coroutines.runInterruptible
import rocketmq.thin.internal.SendOptions

/** The topics of a [Producer], and limits for concurrent sends. Options that are null have their defaults. */
class ProducerOptions internal constructor() {
    /** Topics that must exist when the producer is created (none). The producer may send to other topics, too. */
    var topics: List<String> = emptyList()

    /** The maximum number of messages being sent (4096). Further sends wait. */
    var maxInFlightMessages: Int? = null

    /** The maximum total size of the bodies being sent, in bytes (64 MiB). Further sends wait. */
    var maxInFlightBytes: Long? = null

    /** Bodies larger than this, in bytes, are compressed (no body is compressed). */
    var compressAbove: Long? = null

    internal var checker: (suspend (OrphanCheck) -> Decision)? = null
        private set

    /** Sets [topics]. */
    fun topics(vararg names: String) = apply { topics = names.asList() }

    /**
     * Sets the checker, which decides about transactions that were neither committed nor rolled back in time. They may
     * be those of other producers of the topics, and of processes that have died, so the checker must read durable
     * state. If it throws, takes longer than a minute, or returns [Decision.Unknown], the server asks again. Several
     * checks run at the same time.
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
            maxInFlightMessages?.notNegative("maxInFlightMessages")?.toULong(),
            maxInFlightBytes?.notNegative("maxInFlightBytes")?.toULong(),
            compressAbove?.notNegative("compressAbove")?.toULong(),
        )
}
