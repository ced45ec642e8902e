package rocketmq.thin

/**
 * Its functions are called before and after each send, receive and settlement of a client. They run on the thread of the
 * call, so they must not block. What they throw is logged and has no other effect. See [ClientOptions.interceptor].
 */
interface Interceptor {
    /** Before a send. Returns the message that is sent: [message], or one with further properties. */
    fun beforeSend(message: Message): Message = message

    /** After a send, with a [receipt] or an [error]. */
    fun afterSend(message: Message, receipt: Receipt?, error: Throwable?) {}

    /** Before a receive. */
    fun beforeReceive(group: String) {}

    /** After a receive, with [deliveries] or an [error]. */
    fun afterReceive(group: String, deliveries: List<Delivery>?, error: Throwable?) {}

    /** Before a delivery is settled. */
    fun beforeSettle(group: String, delivery: Delivery, settlement: Settlement) {}

    /**
     * After a delivery was settled, with an [error] if that failed. It is not called for messages of push consumers,
     * which settle in the background.
     */
    fun afterSettle(group: String, delivery: Delivery, settlement: Settlement, error: Throwable?) {}
}

/** How a delivery is settled. */
enum class Settlement {
    /** It is acknowledged. */
    Ack,

    /** It is delivered again. */
    Retry,

    /** It moves to the dead-letter topic. */
    DeadLetter,

    /** Its invisible time changes. */
    ChangeInvisible,
}
