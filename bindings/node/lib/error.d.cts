/** The kinds of errors, the same in every language. */
export type ErrorKind =
  /** The server refused the request as malformed or out of range (codes 400xx). */
  | 'InvalidArgument'
  /** The credentials are missing, wrong, or lack a right (40100). */
  | 'Unauthenticated'
  /** The server forbids this operation, for example a send to a topic without a writable queue (40300). */
  | 'PermissionDenied'
  /** The topic does not exist (40402). */
  | 'TopicNotFound'
  /** The consumer group does not exist (40403). */
  | 'GroupNotFound'
  /** Something else does not exist (40400, 40401, 40404). */
  | 'NotFound'
  /** The topic does not accept messages of this type (40014). */
  | 'TypeMismatch'
  /** The receipt handle has expired, was used before, or was not issued by this server (40013). */
  | 'InvalidReceipt'
  /** Body, properties or headers exceed a limit (413xx, 431xx). */
  | 'TooLarge'
  /** Too many requests, or a quota is exhausted (429xx). */
  | 'Throttled'
  /** The server failed or could not be reached (500xx, connection refused or lost). */
  | 'Unavailable'
  /** The server does not support this operation (50100, 505xx). */
  | 'Unsupported'
  /** No response in time (40800, 504xx, or a timeout of the client). */
  | 'Timeout'
  /** The response is invalid: it has no status, or an unknown code. */
  | 'Protocol'
  /** The options given to the client are invalid. */
  | 'InvalidOptions'
  /** The TLS handshake failed, for example because the certificate is not trusted. */
  | 'Tls'
  /** The client, producer or consumer is closed. */
  | 'Closed'
  /** A defect of the client itself: its code panicked. */
  | 'Internal';

/**
 * The error of a failed operation. `String(error)` and the stack show the operation, the reason, the kind, the code and the
 * endpoint. An argument of the wrong type is a `TypeError` instead, and an aborted call rejects with the reason of its
 * signal.
 */
export class RocketMQError extends Error {
  private constructor();
  readonly name: 'RocketMQError';
  readonly kind: ErrorKind;
  /** The reason: the server's text if it sent one. The text is the same in every language. */
  readonly message: string;
  /** The server's code, such as 40402, or `undefined` if no server responded. */
  readonly code: number | undefined;
  /** Whether the same call may succeed later. */
  readonly retryable: boolean;
  /** Whether the server may have carried out the request although the call failed. */
  readonly maybeDelivered: boolean;
  /** The operation that failed: `connect`, `send`, `receive`, `ack`, ... */
  readonly operation: string;
  /** The address of the server, as `host:port`. */
  readonly endpoint: string | undefined;
  /** The id of the request, which is also in the server's logs. */
  readonly requestId: string | undefined;
}
