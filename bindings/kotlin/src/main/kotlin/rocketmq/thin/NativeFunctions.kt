package rocketmq.thin

import java.nio.ByteBuffer
import rocketmq.thin.internal.FfiConverterRustBuffer

/** The library's C functions, which [NativeLoader] binds. `operations.rs`, `stream.rs` and `push.rs` document them. */
@Suppress("FunctionName")
internal object NativeFunctions {
    external fun rocketmq_thin_send(producer: Long, message: ByteArray, length: Int): Long

    external fun rocketmq_thin_send_all(producer: Long, messages: ByteArray, length: Int): Long

    external fun rocketmq_thin_receive(consumer: Long, maxMessages: Int, invisibleNanos: Long, awaitNanos: Long): Long

    external fun rocketmq_thin_put_back(consumer: Long, messages: ByteArray, length: Int)

    external fun rocketmq_thin_ack(consumer: Long, delivery: Long): Long

    external fun rocketmq_thin_ack_all(consumer: Long, deliveries: LongArray, count: Int): Long

    external fun rocketmq_thin_change_invisible(consumer: Long, delivery: Long, nanos: Long): Long

    external fun rocketmq_thin_next_delivery(stream: Long): Long

    external fun rocketmq_thin_put_back_to_stream(stream: Long, messages: ByteArray, length: Int)

    external fun rocketmq_thin_next_tasks(consumer: Long, max: Int): Long

    external fun rocketmq_thin_complete(batch: Long, index: Int, result: Int, afterNanos: Long)

    external fun rocketmq_thin_settle(batch: Long, index: Int, result: Int, afterNanos: Long): Long

    external fun rocketmq_thin_cancel(operation: Long): Int

    external fun rocketmq_thin_pending(): Long

    /** Returns an address, because a [com.sun.jna.Pointer] needs memory, without which the outcomes would be lost. */
    external fun rocketmq_thin_poll(timeoutMillis: Long): Long
}

/** Encodes a value as uniffi does. The encoded bytes are in the array of the returned buffer, up to its position. */
internal fun <T> FfiConverterRustBuffer<T>.encode(value: T): ByteBuffer =
    ByteBuffer.allocate(allocationSize(value).toInt()).also { write(value, it) }
