package rocketmq.thin

/**
 * Functions that are called before and after each send, receive and settlement of a client. They run on the thread of
 * the call, so they must not block. Their exceptions are logged and have no other effect. See
 * [ClientOptions.interceptor].
 */
interface Interceptor {
    /** Called before a send. Returns the message to send: [message], or a copy with further properties. */
    fun beforeSend(message: Message): Message = message

    /** Called after a send, with a [receipt] or an [error]. */
    fun afterSend(message: Message, receipt: Receipt?, error: Throwable?) {}

    /** Called before a receive. */
    fun beforeReceive(group: String) {}

    /** Called after a receive, with [deliveries] or an [error]. */
    fun afterReceive(group: String, deliveries: List<Delivery>?, error: Throwable?) {}

    /** Called before a delivery is settled. */
    fun beforeSettle(group: String, delivery: Delivery, settlement: Settlement) {}

    /**
     * Called after a delivery was settled, with an [error] if that failed. A failed message of a FIFO group that the push
     * consumer itself handles again counts as settled.
     */
    fun afterSettle(group: String, delivery: Delivery, settlement: Settlement, error: Throwable?) {}
}

/** How a delivery is settled. */
enum class Settlement {
    /** The message is acknowledged. */
    Ack,

    /** The message is delivered again. */
    Retry,

    /** The message moves to the dead-letter topic. */
    DeadLetter,

    /** The invisible time of the delivery changes. */
    ChangeInvisible,
}
