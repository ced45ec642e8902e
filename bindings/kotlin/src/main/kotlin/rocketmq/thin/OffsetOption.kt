package rocketmq.thin

import java.time.Instant
import rocketmq.thin.internal.StartOffset

/** Where a group starts in a lite topic: `subscribeLite("alice", OffsetOption.MIN)`. */
class OffsetOption private constructor(internal val native: StartOffset) {
    override fun equals(other: Any?) = other is OffsetOption && other.native == native

    override fun hashCode() = native.hashCode()

    override fun toString() =
        when (native) {
            is StartOffset.Last -> "OffsetOption.LAST"
            is StartOffset.Min -> "OffsetOption.MIN"
            is StartOffset.Max -> "OffsetOption.MAX"
            is StartOffset.Offset -> "OffsetOption.offset(${native.v1})"
            is StartOffset.Tail -> "OffsetOption.tail(${native.v1})"
            is StartOffset.Timestamp -> "OffsetOption.timestamp(${native.v1})"
        }

    companion object {
        /** At the first message that the group has not consumed. */
        @JvmField val LAST = OffsetOption(StartOffset.Last)

        /** At the first message. */
        @JvmField val MIN = OffsetOption(StartOffset.Min)

        /** After the last message. */
        @JvmField val MAX = OffsetOption(StartOffset.Max)

        /** At this offset. */
        @JvmStatic
        fun offset(offset: Long) = OffsetOption(StartOffset.Offset(offset.notNegative("offset").toULong()))

        /** This many messages before the first one that the group has not consumed. */
        @JvmStatic
        fun tail(messages: Long) = OffsetOption(StartOffset.Tail(messages.notNegative("messages").toULong()))

        /** At the first message that was stored at [time] or later. Apache's brokers ignore this. */
        @JvmStatic fun timestamp(time: Instant) = OffsetOption(StartOffset.Timestamp(time))
    }
}
