package rocketmq.thin

import com.sun.jna.Native
import com.sun.jna.Pointer
import java.nio.ByteBuffer
import rocketmq.thin.internal.FfiConverterRustBuffer

/** The library's C functions, documented in `operations.rs`, by JNA's direct mapping. */
@Suppress("FunctionName")
internal object NativeFunctions {
    init {
        Native.register(NativeFunctions::class.java, "rocketmq_thin_kotlin")
    }

    external fun rocketmq_thin_send(producer: Long, message: ByteArray, length: Int): Long

    external fun rocketmq_thin_send_all(producer: Long, messages: ByteArray, length: Int): Long

    external fun rocketmq_thin_receive(consumer: Long, maxMessages: Int, invisibleMillis: Long, awaitMillis: Long): Long

    external fun rocketmq_thin_ack(consumer: Long, delivery: Long): Long

    external fun rocketmq_thin_ack_all(consumer: Long, deliveries: LongArray, count: Int): Long

    external fun rocketmq_thin_change_invisible(consumer: Long, delivery: Long, millis: Long): Long

    external fun rocketmq_thin_cancel(operation: Long): Int

    external fun rocketmq_thin_poll(): Pointer?
}

/** The value in uniffi's encoding, from the start of the buffer's array to its position. */
internal fun <T> FfiConverterRustBuffer<T>.encode(value: T): ByteBuffer =
    ByteBuffer.allocate(allocationSize(value).toInt()).also { write(value, it) }
