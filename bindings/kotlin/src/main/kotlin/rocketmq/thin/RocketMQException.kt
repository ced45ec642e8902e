package rocketmq.thin

import rocketmq.thin.internal.ErrorKind as NativeKind
import rocketmq.thin.internal.Failure

/** The kinds of errors, the same in every language. Each has a subclass of [RocketMQException] with its name. */
enum class ErrorKind {
    /** The server refused the request as malformed or out of range. */
    InvalidArgument,

    /** The credentials are missing, wrong, or lack a right. */
    Unauthenticated,

    /** The server forbids this operation. */
    PermissionDenied,

    /** The topic does not exist. */
    TopicNotFound,

    /** The consumer group does not exist. */
    GroupNotFound,

    /** Something else does not exist. */
    NotFound,

    /** The topic does not accept messages of this type. */
    TypeMismatch,

    /** The invisible time of the delivery has expired. */
    InvalidReceipt,

    /** Body, properties or headers exceed a limit. */
    TooLarge,

    /** Too many requests, or a quota is exhausted. */
    Throttled,

    /** The server failed or could not be reached. */
    Unavailable,

    /** The server does not support this operation. */
    Unsupported,

    /** The server did not respond in time. */
    Timeout,

    /** The server's response is invalid. */
    Protocol,

    /** The options given to the client are invalid. */
    InvalidOptions,

    /** The TLS handshake failed, for example because the certificate is not trusted. */
    Tls,

    /** The client, producer or consumer is closed. */
    Closed,

    /** A defect of the client itself. */
    Internal,
}

/**
 * The error of a failed operation. [message] is the reason: the server's text if it sent one. [toString] also contains
 * the operation, the kind, the code and the endpoint. [cause] is the underlying error, such as that of the operating
 * system, if there is one.
 */
sealed class RocketMQException(
    /** The kind of the error. */
    val kind: ErrorKind,
    failure: Failure,
) : Exception(failure.reason, failure.cause()) {
    /** The server's code, such as 40402; null if no server responded. */
    val code: Int? = failure.code

    /** Whether the same call may succeed later. */
    val retryable: Boolean = failure.retryable

    /** Whether the server may have carried out the request although the call failed. */
    val maybeDelivered: Boolean = failure.maybeDelivered

    /** The operation that failed: `connect`, `send`, `receive`, `ack`, ... */
    val operation: String = failure.operation

    /** The address of the server, as `host:port`. */
    val endpoint: String? = failure.endpoint

    /** The id of the request, which is also in the server's logs. */
    val requestId: String? = failure.requestId

    private val summary = failure.summary

    override fun toString() = "${javaClass.name}: $summary"

    /** The server refused the request as malformed or out of range. */
    class InvalidArgument internal constructor(failure: Failure) : RocketMQException(ErrorKind.InvalidArgument, failure)

    /** The credentials are missing, wrong, or lack a right. */
    class Unauthenticated internal constructor(failure: Failure) : RocketMQException(ErrorKind.Unauthenticated, failure)

    /** The server forbids this operation. */
    class PermissionDenied internal constructor(failure: Failure) :
        RocketMQException(ErrorKind.PermissionDenied, failure)

    /** The topic does not exist. */
    class TopicNotFound internal constructor(failure: Failure) : RocketMQException(ErrorKind.TopicNotFound, failure)

    /** The consumer group does not exist. */
    class GroupNotFound internal constructor(failure: Failure) : RocketMQException(ErrorKind.GroupNotFound, failure)

    /** Something else does not exist. */
    class NotFound internal constructor(failure: Failure) : RocketMQException(ErrorKind.NotFound, failure)

    /** The topic does not accept messages of this type. */
    class TypeMismatch internal constructor(failure: Failure) : RocketMQException(ErrorKind.TypeMismatch, failure)

    /** The invisible time of the delivery has expired. */
    class InvalidReceipt internal constructor(failure: Failure) : RocketMQException(ErrorKind.InvalidReceipt, failure)

    /** Body, properties or headers exceed a limit. */
    class TooLarge internal constructor(failure: Failure) : RocketMQException(ErrorKind.TooLarge, failure)

    /** Too many requests, or a quota is exhausted. */
    class Throttled internal constructor(failure: Failure) : RocketMQException(ErrorKind.Throttled, failure)

    /** The server failed or could not be reached. */
    class Unavailable internal constructor(failure: Failure) : RocketMQException(ErrorKind.Unavailable, failure)

    /** The server does not support this operation. */
    class Unsupported internal constructor(failure: Failure) : RocketMQException(ErrorKind.Unsupported, failure)

    /** The server did not respond in time. */
    class Timeout internal constructor(failure: Failure) : RocketMQException(ErrorKind.Timeout, failure)

    /** The server's response is invalid. */
    class Protocol internal constructor(failure: Failure) : RocketMQException(ErrorKind.Protocol, failure)

    /** The options given to the client are invalid. */
    class InvalidOptions internal constructor(failure: Failure) : RocketMQException(ErrorKind.InvalidOptions, failure)

    /** The TLS handshake failed, for example because the certificate is not trusted. */
    class Tls internal constructor(failure: Failure) : RocketMQException(ErrorKind.Tls, failure)

    /** The client, producer or consumer is closed. */
    class Closed internal constructor(failure: Failure) : RocketMQException(ErrorKind.Closed, failure)

    /** A defect of the client itself. */
    class Internal internal constructor(failure: Failure) : RocketMQException(ErrorKind.Internal, failure)
}

/** An exception for the first cause, whose cause is the second, and so on. */
private fun Failure.cause() = causes.foldRight(null as Throwable?) { reason, cause -> Exception(reason, cause) }

internal fun Failure.toException(): RocketMQException =
    when (kind) {
        NativeKind.INVALID_ARGUMENT -> RocketMQException.InvalidArgument(this)
        NativeKind.UNAUTHENTICATED -> RocketMQException.Unauthenticated(this)
        NativeKind.PERMISSION_DENIED -> RocketMQException.PermissionDenied(this)
        NativeKind.TOPIC_NOT_FOUND -> RocketMQException.TopicNotFound(this)
        NativeKind.GROUP_NOT_FOUND -> RocketMQException.GroupNotFound(this)
        NativeKind.NOT_FOUND -> RocketMQException.NotFound(this)
        NativeKind.TYPE_MISMATCH -> RocketMQException.TypeMismatch(this)
        NativeKind.INVALID_RECEIPT -> RocketMQException.InvalidReceipt(this)
        NativeKind.TOO_LARGE -> RocketMQException.TooLarge(this)
        NativeKind.THROTTLED -> RocketMQException.Throttled(this)
        NativeKind.UNAVAILABLE -> RocketMQException.Unavailable(this)
        NativeKind.UNSUPPORTED -> RocketMQException.Unsupported(this)
        NativeKind.TIMEOUT -> RocketMQException.Timeout(this)
        NativeKind.PROTOCOL -> RocketMQException.Protocol(this)
        NativeKind.INVALID_OPTIONS -> RocketMQException.InvalidOptions(this)
        NativeKind.TLS -> RocketMQException.Tls(this)
        NativeKind.CLOSED -> RocketMQException.Closed(this)
        NativeKind.INTERNAL -> RocketMQException.Internal(this)
    }
