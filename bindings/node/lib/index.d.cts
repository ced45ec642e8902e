/// <reference types="node" />

/** One or more names. A string is one name. */
export type Names = string | Iterable<string>;

/**
 * How a client connects to its servers. Times are in milliseconds. An option that is left out has its default, which
 * is given in parentheses.
 */
export interface ClientOptions {
  /**
   * The addresses of one service; the client uses whichever answers. Each is `host:port`, `host` (port 8081),
   * `[::1]:port`, `http://host:port`, or `https://host:port`, which turns TLS on. A string may hold several,
   * separated by `,` or `;`.
   */
  readonly endpoints: Names;
  /** The namespace of every topic and group (none). */
  readonly namespace?: string | undefined;
  /** The credentials that requests are signed with (none). */
  readonly credentials?: Credentials | undefined;
  /**
   * `true` uses TLS with the certificate authorities of the operating system, `{ ca }` with only those given, in PEM
   * format. The server's certificate is always verified. (`false`, except for `https://` endpoints.)
   */
  readonly tls?: boolean | { readonly ca: string | Uint8Array } | undefined;
  /** The timeout of one attempt (3000). A receive waits this much longer than `awaitMs`. */
  readonly requestTimeoutMs?: number | undefined;
  /** The timeout of one call, including all retries (10000). */
  readonly operationTimeoutMs?: number | undefined;
  /** The timeout for connecting, and for creating a producer or consumer (10000). */
  readonly startupTimeoutMs?: number | undefined;
  /** How failed attempts are retried. */
  readonly retry?: RetryOptions | undefined;
}

/** An access key and its secret, as issued by the server's administrator. */
export interface Credentials {
  readonly accessKey: string;
  /** Signs each request. It is never sent. */
  readonly secretKey: string;
  /** The token of temporary credentials (none). */
  readonly sessionToken?: string | undefined;
}

/** How failed attempts are retried. The delays are random, below a limit that doubles with each attempt. */
export interface RetryOptions {
  /** The maximum number of attempts of one call (16). 1 turns retries off. */
  readonly maxAttempts?: number | undefined;
  /** The limit of the first delay (20). */
  readonly initialMs?: number | undefined;
  /** The maximum of the limit (1000). */
  readonly maxMs?: number | undefined;
}

/** Which topics a producer sends to, and how much it sends at once. */
export interface ProducerOptions {
  /** Topics that must exist when the producer is created (none). It may send to other topics, too. */
  readonly topics?: Names | undefined;
  /** The maximum number of messages being sent (4096). Further sends wait. */
  readonly maxInFlightMessages?: number | undefined;
  /** The maximum total size of the bodies being sent, in bytes (64 MiB). Further sends wait. */
  readonly maxInFlightBytes?: number | undefined;
}

/** What a consumer receives. */
export interface SimpleConsumerOptions {
  /** The consumer group. Its members share the messages. */
  readonly group: string;
  /** One or more topics, each with or without a filter. All members of a group must have the same subscriptions. */
  readonly subscriptions: string | Subscription | Iterable<string | Subscription>;
  /** The maximum size of a decompressed body, in bytes (64 MiB). A larger one is delivered as corrupted. */
  readonly maxBodySize?: number | undefined;
}

/** A topic and a filter: messages with one of `tags`, messages that match the SQL-92 expression `sql`, or all. */
export type Subscription =
  | { readonly topic: string; readonly tags?: Names | undefined; readonly sql?: undefined }
  | { readonly topic: string; readonly tags?: undefined; readonly sql: string };

/** Options of every call. */
export interface CallOptions {
  /**
   * Aborts the call: its promise rejects with the signal's reason. What the server has done by then is not undone:
   * an aborted send may still be delivered. Messages that an aborted receive has fetched go to the next receive.
   */
  readonly signal?: AbortSignal | undefined;
}

/** How many messages a receive asks for and how long it waits. */
export interface ReceiveOptions extends CallOptions {
  /** The maximum number of deliveries (32). Servers return at most 32. */
  readonly maxMessages?: number | undefined;
  /** How long the deliveries are invisible to other consumers (30000). Servers allow 10 seconds to 12 hours. */
  readonly invisibleMs?: number | undefined;
  /** How long to wait for the first message (20000). Servers wait between 5 and 20 seconds. */
  readonly awaitMs?: number | undefined;
}

/** How long a close waits. */
export interface CloseOptions extends CallOptions {
  /** The timeout for outstanding sends and acks (20000). */
  readonly deadlineMs?: number | undefined;
}

/** A message to send. */
export interface Message {
  readonly topic: string;
  /** The content. A string is sent as UTF-8. An array is copied and may be reused at once. */
  readonly body: Uint8Array | string;
  /** A tag that consumers can filter by (none). */
  readonly tag?: string | undefined;
  /** Keys that the message can be looked up by (none). Servers split a key at spaces. */
  readonly keys?: Names | undefined;
  /** The application's own properties (none). */
  readonly properties?: Readonly<Record<string, string>> | undefined;
}

/** The confirmation that a message is stored. */
export interface Receipt {
  /** The id of the message. Its deliveries have the same id. */
  readonly messageId: string;
  readonly topic: string;
  /** The offset in the queue, or -1 if the server did not return it. */
  readonly queueOffset: number;
  /** The server's transaction id. Servers set it for normal messages, too. */
  readonly transactionId: string;
}

/** The result of a close. */
export interface CloseReport {
  /** How many outstanding sends and acks were completed. */
  readonly flushed: number;
  /** How many sends and acks were not answered before the deadline. Each failed with kind `Closed`. */
  readonly abandoned: number;
  readonly elapsedMs: number;
}

/** The result of one item of a batch, in the form of `Promise.allSettled`. */
export type Settled<T> =
  | { readonly status: 'fulfilled'; readonly value: T }
  | { readonly status: 'rejected'; readonly reason: RocketMQError };

/** A connection to a RocketMQ service. Its producers and consumers share connections, credentials and namespace. */
export class Client implements AsyncDisposable {
  private constructor();
  /**
   * Checks the options and connects to one of the endpoints. A string stands for the endpoints alone.
   * Rejects with `InvalidOptions`, or with `Unavailable`, `Tls` or `Timeout` within `startupTimeoutMs`.
   */
  static connect(options: string | ClientOptions, call?: CallOptions): Promise<Client>;
  /** Creates a producer. Rejects with the server's error, such as `TopicNotFound` or `Unauthenticated`. */
  producer(options?: ProducerOptions, call?: CallOptions): Promise<Producer>;
  /** Creates a consumer. Rejects as `producer` does. */
  simpleConsumer(options: SimpleConsumerOptions, call?: CallOptions): Promise<SimpleConsumer>;
  /** Closes all producers and consumers of this client within one deadline. */
  close(options?: CloseOptions): Promise<CloseReport>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Sends messages. */
export class Producer implements AsyncDisposable {
  private constructor();
  /** Sends a message and resolves when the server has stored it. Concurrent sends share requests. */
  send(message: Message, call?: CallOptions): Promise<Receipt>;
  /** Sends several messages. The results are in the order of the messages. */
  sendAll(messages: Iterable<Message>, call?: CallOptions): Promise<Settled<Receipt>[]>;
  /** Accepts no more sends, and waits for outstanding ones. */
  close(options?: CloseOptions): Promise<CloseReport>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Receives messages one call at a time. */
export class SimpleConsumer implements AsyncDisposable {
  private constructor();
  /** Waits for messages of any subscribed topic. Returns an empty array if none arrives in time. */
  receive(options?: ReceiveOptions): Promise<Delivery[]>;
  /**
   * Receives repeatedly and yields one delivery at a time, until the loop is left, `signal` aborts, or a receive
   * fails. Deliveries that were received but not yielded when the loop is left go to the next receive.
   */
  deliveries(options?: ReceiveOptions): AsyncGenerator<Delivery, never, undefined>;
  /** Acknowledges a delivery. Rejects with `InvalidReceipt` if its invisible time has expired. */
  ack(delivery: Delivery, call?: CallOptions): Promise<void>;
  /** Acknowledges several deliveries. The results are in the order of the deliveries. */
  ackAll(deliveries: Iterable<Delivery>, call?: CallOptions): Promise<Settled<void>[]>;
  /** Makes a delivery invisible to other consumers for this long from now. 0 makes it visible at once. */
  changeInvisible(delivery: Delivery, invisibleMs: number, call?: CallOptions): Promise<void>;
  /** Accepts no more calls, and waits for outstanding acks. */
  close(options?: CloseOptions): Promise<CloseReport>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A received message. It is invisible to other consumers until it is acknowledged or its invisible time expires. */
export class Delivery {
  private constructor();
  /** The id that the sender's receipt has, too. */
  readonly messageId: string;
  readonly topic: string;
  /** The decompressed content. If `corrupted`, the bytes as received. */
  readonly body: Buffer;
  readonly tag: string | undefined;
  readonly keys: readonly string[];
  readonly properties: Readonly<Record<string, string>>;
  /** The group of a FIFO message. Messages of one group are delivered in order. */
  readonly messageGroup: string | undefined;
  /** When the sender created it. */
  readonly bornAt: Date | undefined;
  /** The sender's host. */
  readonly bornHost: string;
  /** When the server stored it. */
  readonly storedAt: Date | undefined;
  /** How many times it has been delivered, including this time. */
  readonly attempt: number;
  /** Whether the body does not match its digest or could not be decompressed. */
  readonly corrupted: boolean;
  readonly queueId: number;
  readonly queueOffset: number;
}

/** The kinds of errors, the same in every language. */
export type ErrorKind =
  /** The server refused the request as malformed or out of range (codes 400xx). */
  | 'InvalidArgument'
  /** The credentials are missing, wrong, or lack a right (40100). */
  | 'Unauthenticated'
  /** The server forbids this operation, as on a topic without a writable queue (40300). */
  | 'PermissionDenied'
  /** The topic does not exist (40402). */
  | 'TopicNotFound'
  /** The consumer group does not exist (40403). */
  | 'GroupNotFound'
  /** Something else does not exist (40400, 40401, 40404). */
  | 'NotFound'
  /** The topic does not take messages of this type (40014). */
  | 'TypeMismatch'
  /** The receipt handle has expired, was used before, or is not the server's (40013). */
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
 * An operation failed. `String(error)` and the stack show the operation, the reason, the kind, the code and the
 * endpoint. An argument of the wrong type is a `TypeError` instead, and an aborted call rejects with the reason of its
 * signal.
 */
export class RocketMQError extends Error {
  private constructor();
  readonly name: 'RocketMQError';
  readonly kind: ErrorKind;
  /** The reason: the server's text if it sent one. It is the same in every language. */
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
  /** The id of the request, which the server's logs show, too. */
  readonly requestId: string | undefined;
}
