/// <reference types="node" />

import { PushConsumer, SimpleConsumer } from './consumers.cjs';
import { RocketMQError } from './error.cjs';
import { Health, Interceptor, Logger, Metric } from './observe.cjs';

export * from './consumers.cjs';
export { RocketMQError, type ErrorKind } from './error.cjs';
export type * from './observe.cjs';

/** One or more names. A string is a single name. */
export type Names = string | Iterable<string>;

/**
 * How a client connects to its servers. Times are in milliseconds. Defaults are in parentheses.
 */
export interface ClientOptions {
  /**
   * The addresses of one service; the client uses those that answer. Each is `host:port`, `host` (port 8081),
   * `[::1]:port`, `http://host:port`, or `https://host:port`, which turns TLS on. A string may hold several,
   * separated by `,` or `;`.
   */
  readonly endpoints: Names;
  /** The namespace of all topics and groups (none). */
  readonly namespace?: string | undefined;
  /**
   * The credentials that requests are signed with, or a function that provides them: it is called before connecting,
   * before the credentials expire, and after a server has refused them (none).
   */
  readonly credentials?: Credentials | CredentialsProvider | undefined;
  /** `true` uses TLS with the certificate authorities of the operating system. (`false`, except for `https://` endpoints.) */
  readonly tls?: boolean | TlsOptions | undefined;
  /**
   * `eager`: connecting fails at once if no server listens. `wait`: connecting waits for a server, up to
   * `startupTimeoutMs`. `lazy`: only the calls that need a server wait for it. (`eager`)
   */
  readonly startup?: 'eager' | 'wait' | 'lazy' | undefined;
  /** The timeout of one attempt (3000). For a receive, it is added to `awaitMs`. */
  readonly requestTimeoutMs?: number | undefined;
  /** The timeout of one call, including all retries (10000). */
  readonly operationTimeoutMs?: number | undefined;
  /** The timeout for connecting, and for creating a producer or consumer (10000). */
  readonly startupTimeoutMs?: number | undefined;
  /** How failed attempts are retried. */
  readonly retry?: RetryOptions | undefined;
  /**
   * Logs failures of handlers, status changes, and internal events of the clients of this process, such as lost
   * connections (nothing is logged). `console` is a logger. At most 1,024 records wait to be logged; further records are
   * dropped, and their number is logged.
   */
  readonly logger?: Logger | undefined;
  /** Functions that are called before each send, receive and settling in this order, and after it in reverse order (none). */
  readonly interceptors?: Iterable<Interceptor> | undefined;
}

/** Options of encrypted connections. Certificates and keys are in PEM format. */
export interface TlsOptions {
  /** The certificate authorities to trust (those of the operating system). */
  readonly ca?: string | Uint8Array | undefined;
  /** The client's certificate, which authenticates it (none). */
  readonly cert?: string | Uint8Array | undefined;
  /** The unencrypted private key of `cert` (none). */
  readonly key?: string | Uint8Array | undefined;
  /** The name that the server's certificate must have (the host of the endpoint). */
  readonly serverName?: string | undefined;
  /** Whether any certificate is accepted. This gives no protection against a man in the middle (`false`). */
  readonly dangerouslySkipVerification?: boolean | undefined;
}

/**
 * Provides credentials. The first call gets the signal of the `connect`. If the provider fails, or does not answer within
 * 30 seconds, the calls that wait for credentials fail with `Unauthenticated`. `connect` waits no longer than
 * `startupTimeoutMs`.
 */
export type CredentialsProvider = (call: { readonly signal?: AbortSignal | undefined }) => Credentials | Promise<Credentials>;

/** An access key and its secret, as issued by the server's administrator. */
export interface Credentials {
  readonly accessKey: string;
  /** Signs each request. It is never sent. */
  readonly secretKey: string;
  /** The token of temporary credentials (none). */
  readonly sessionToken?: string | undefined;
  /** When the credentials expire. The client calls its provider for new ones before that (never). */
  readonly expiresAt?: Date | undefined;
}

/** How failed attempts are retried. The delays are random, below a limit that doubles with each attempt. */
export interface RetryOptions {
  /** The maximum number of attempts of one call (16). With 1, a request that a server may have received is never repeated. */
  readonly maxAttempts?: number | undefined;
  /** The limit of the first delay (20). */
  readonly initialMs?: number | undefined;
  /** The maximum of the limit (1000). */
  readonly maxMs?: number | undefined;
}

/** The topics of a producer, and limits for concurrent sends. */
export interface ProducerOptions {
  /**
   * Topics that must exist when the producer is created, or at the first send if the client starts lazily (none). The
   * producer may send to other topics, too.
   */
  readonly topics?: Names | undefined;
  /** The maximum number of messages that are being sent (4096). Further sends wait. */
  readonly maxInFlightMessages?: number | undefined;
  /** The maximum total size of the bodies that are being sent, in bytes (64 MiB). Further sends wait. */
  readonly maxInFlightBytes?: number | undefined;
  /** Bodies larger than this, in bytes, are compressed (no body is compressed). */
  readonly compressAbove?: number | undefined;
  /**
   * Decides about transactions that were neither committed nor rolled back in time. The transactions may be those of other
   * producers of the topics, and of processes that have died, so the checker must read durable state. If it fails, or
   * returns `unknown`, the server asks again (none).
   */
  readonly checker?: ((check: OrphanCheck) => Decision | Promise<Decision>) | undefined;
}

/** What happens to the messages of a transaction. */
export type Decision = 'commit' | 'rollback' | 'unknown';

/** A request of the server for the decision about a message whose transaction was not decided in time. */
export interface OrphanCheck {
  /** The message, as it was sent in the transaction. */
  readonly message: {
    readonly topic: string;
    readonly body: Buffer;
    readonly tag: string | undefined;
    readonly keys: readonly string[];
    readonly properties: Readonly<Record<string, string>>;
  };
  /** The message id, which is also in the sender's receipt. */
  readonly messageId: string;
  /** The server's transaction id, which is also in the sender's receipt. */
  readonly transactionId: string;
}

/** What a consumer receives: the messages of topics, or of the lite topics of one topic. */
export type Sources =
  | {
      /** One or more topics, each with or without a filter. All members of a group must have the same subscriptions. */
      readonly subscriptions: string | Subscription | Iterable<string | Subscription>;
      readonly lite?: undefined;
    }
  | {
      readonly subscriptions?: undefined;
      /** A topic, whose lite topics are chosen with `subscribeLite`. */
      readonly lite: string;
    };

/** Options of every consumer. */
export interface ConsumerOptions {
  /** The consumer group. Its members share the messages. */
  readonly group: string;
  /**
   * The maximum size of a decompressed body, in bytes (64 MiB). A larger one is delivered as corrupted. It also limits the
   * total size of the bodies of one response that are decompressed when they arrive. The other ones are decompressed when
   * they are handed out, and `receive` returns each of them alone.
   */
  readonly maxBodySize?: number | undefined;
}

/** Options of a simple consumer. */
export type SimpleConsumerOptions = ConsumerOptions & Sources;

/** Options of a push consumer. */
export type PushConsumerOptions = ConsumerOptions &
  Sources & {
    /** Handles one message. `signal` aborts when the consumer has been closed. */
    readonly handler: (delivery: Delivery, call: { readonly signal: AbortSignal }) => ConsumeResult | Promise<ConsumeResult>;
    /** The maximum number of messages that are handled at the same time (20). */
    readonly concurrency?: number | undefined;
    /** The maximum number of messages in the client that wait or are being handled (4096). */
    readonly maxCachedMessages?: number | undefined;
    /** The consumer pauses receiving while the bodies of these messages are larger than this, in bytes (64 MiB). */
    readonly maxCachedBytes?: number | undefined;
    /** The duration of a lease, which is renewed while a message waits or is handled (60000). */
    readonly invisibleMs?: number | undefined;
    /** The maximum number of messages that are handled per second (no limit). */
    readonly maxRate?: number | undefined;
  };

/**
 * What happens to a message that was handled. `retry` delivers it again according to the group's retry policy, and
 * `{ retryAfterMs }` after this time. `deadLetter` moves it to the dead-letter topic, whose name is `%DLQ%` and the
 * group's name. `ack` and `undefined` acknowledge it. A handler that throws or returns an `Error` means `retry`.
 *
 * Any other value is a mistake: a `TypeError` is logged, and the message is delivered again.
 */
export type ConsumeResult = 'ack' | 'retry' | 'deadLetter' | { readonly retryAfterMs: number } | void;

/** How many messages a stream fetches before the application takes them. */
export interface StreamOptions extends CallOptions {
  /** The maximum number of messages that wait (128). */
  readonly maxMessages?: number | undefined;
  /** The stream pauses fetching while the bodies of waiting messages are larger than this, in bytes (64 MiB). */
  readonly maxBytes?: number | undefined;
  /** How long deliveries are invisible to other consumers (30000). The leases of waiting deliveries are renewed. */
  readonly invisibleMs?: number | undefined;
}

/** A topic and a filter: messages with one of `tags`, messages that match the SQL-92 expression `sql`, or all. */
export type Subscription =
  | { readonly topic: string; readonly tags?: Names | undefined; readonly sql?: undefined }
  | { readonly topic: string; readonly tags?: undefined; readonly sql: string };

/** Options of every call. */
export interface CallOptions {
  /**
   * Aborts the call: its promise rejects with the signal's reason. Effects on the server are not undone: an aborted
   * send may still be delivered. Messages that an aborted receive has fetched go to the next receive.
   */
  readonly signal?: AbortSignal | undefined;
}

/** How many messages a receive requests, and how long it waits. */
export interface ReceiveOptions extends CallOptions {
  /** The maximum number of deliveries, 1 or more (32). Servers return at most 32. */
  readonly maxMessages?: number | undefined;
  /** How long the deliveries are invisible to other consumers (30000). Servers accept 10 seconds to 12 hours. */
  readonly invisibleMs?: number | undefined;
  /**
   * How long to wait for the first message (20000). With 0, the receive returns messages that have already arrived, and
   * later messages go to a later receive.
   */
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
  // A message has one type: at most one of the following fields.
  /** For a FIFO topic: messages of one group are delivered in the order in which they were sent (none). */
  readonly messageGroup?: string | undefined;
  /** For a delay topic: when the message is delivered (at once). */
  readonly deliverAt?: Date | undefined;
  /** For a delay topic: how long after the send the message is delivered (0). */
  readonly delayMs?: number | undefined;
  /** For a priority topic: messages with a higher priority are delivered first (none). */
  readonly priority?: number | undefined;
  /** For a lite topic: the name of the lite topic within `topic` (none). */
  readonly liteTopic?: string | undefined;
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
  /** The handle for recalling a delayed message, see `Producer.recall`. `undefined` for other messages. */
  readonly recallHandle: string | undefined;
}

/** The result of a close. */
export interface CloseReport {
  /** The number of outstanding sends and acks that were completed. */
  readonly flushed: number;
  /**
   * The number of sends and acks without an answer at the deadline, which failed with kind `Closed`, and of messages whose
   * handlers were still running, which are delivered again.
   */
  readonly abandoned: number;
  /** For push consumers: the number of messages that were being handled, and were settled in time. */
  readonly handled: number;
  /** For consumers: the number of messages that were given back to the server unhandled. */
  readonly givenBack: number;
  /** How long the close took. */
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
   * Checks the options and connects to one of the endpoints. A string contains only the endpoints.
   * Rejects with `InvalidOptions`, or with `Unavailable`, `Tls` or `Timeout` within `startupTimeoutMs`.
   */
  static connect(options: string | ClientOptions, call?: CallOptions): Promise<Client>;
  /** Creates a producer. Rejects with the server's error, such as `TopicNotFound` or `Unauthenticated`. */
  producer(options?: ProducerOptions, call?: CallOptions): Promise<Producer>;
  /** Creates a consumer. Rejects as `producer` does. */
  simpleConsumer(options: SimpleConsumerOptions, call?: CallOptions): Promise<SimpleConsumer>;
  /** Creates a consumer that calls a handler for each message, until it is closed. Rejects as `producer` does. */
  pushConsumer(options: PushConsumerOptions, call?: CallOptions): Promise<PushConsumer>;
  /** Returns whether the servers can be reached, according to the latest calls and heartbeats. */
  health(): Health;
  /** Returns the metrics of the client, its producers and its consumers since the client was created. */
  metrics(): Metric[];
  /** Yields the current health, and then the health after each status change, until the client is closed. */
  statusChanges(call?: CallOptions): AsyncGenerator<Health, void, undefined>;
  /** Closes all producers and consumers of this client within one deadline. */
  close(options?: CloseOptions): Promise<CloseReport>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Sends messages. */
export class Producer implements AsyncDisposable {
  private constructor();
  /**
   * Sends a message and resolves when the server has stored it. Concurrent sends share requests. Rejects with
   * `InvalidArgument` if fields of the message contradict each other, with the server's refusal, or with the last failure
   * if there is no answer within `operationTimeoutMs`: see `maybeDelivered` of the error.
   */
  send(message: Message, call?: CallOptions): Promise<Receipt>;
  /** Sends several messages. The results are in the order of the messages. */
  sendAll(messages: Iterable<Message>, call?: CallOptions): Promise<Settled<Receipt>[]>;
  /**
   * Recalls a delayed message before it is delivered. Resolves to the message id. Rejects with kind `InvalidArgument` if the
   * receipt has no recall handle, and with the server's refusal, for example if the message is due.
   */
  recall(receipt: Pick<Receipt, 'topic' | 'recallHandle'>, call?: CallOptions): Promise<string>;
  /** Begins a transaction. Nothing is sent yet. */
  begin(): Transaction;
  /** Accepts no more sends, and waits for outstanding sends. Transactions that are still undecided can no longer be decided. */
  close(options?: CloseOptions): Promise<CloseReport>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Messages that are delivered together with a local change, or not at all. With `await using`, the transaction is rolled
 * back at the end of the block unless it was committed. If it is dropped without a decision, or the process dies, the
 * server keeps its messages hidden and asks the checkers of the topic's producers in any process.
 */
export class Transaction implements AsyncDisposable {
  private constructor();
  /** Sends a message that is delivered once the transaction is committed. */
  send(message: Message, call?: CallOptions): Promise<Receipt>;
  /**
   * Commits: the messages are delivered. Rejects with `InvalidArgument` if the transaction was decided before, and with
   * `Closed` if its producer is closed.
   */
  commit(call?: CallOptions): Promise<void>;
  /** Rolls back: the messages are dropped. Rejects as `commit` does. */
  rollback(call?: CallOptions): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A received message. It is invisible to other consumers until it is acknowledged or its invisible time expires. */
export class Delivery {
  private constructor();
  /** The message id, which is also in the sender's receipt. */
  readonly messageId: string;
  readonly topic: string;
  /** The decompressed content. If `corrupted`, the bytes as received. */
  readonly body: Buffer;
  readonly tag: string | undefined;
  readonly keys: readonly string[];
  readonly properties: Readonly<Record<string, string>>;
  /** The message group of a FIFO message. Messages of one group are delivered in order. */
  readonly messageGroup: string | undefined;
  /** When a delayed message was due. `undefined` for other messages. */
  readonly deliverAt: Date | undefined;
  /** The priority of a priority message. `undefined` for other messages. */
  readonly priority: number | undefined;
  /** The lite topic of a lite message. `undefined` for other messages. */
  readonly liteTopic: string | undefined;
  /** For a dead letter: topic and id of the original message. */
  readonly deadLetterOrigin: { readonly topic: string; readonly messageId: string } | undefined;
  /** The W3C trace context of the sender. */
  readonly traceParent: string | undefined;
  /** Whether the lease ended before the delivery was settled. The message is delivered again, and settling this fails. */
  readonly isLeaseLost: boolean;
  /** When the sender created it. */
  readonly bornAt: Date | undefined;
  /** The sender's host. */
  readonly bornHost: string;
  /** When the server stored it. */
  readonly storedAt: Date | undefined;
  /** How many times the message has been delivered, including this time. */
  readonly attempt: number;
  /** Whether the body does not match its digest or could not be decompressed. */
  readonly corrupted: boolean;
  /** The id of the queue that stores the message. */
  readonly queueId: number;
  /** The offset of the message in its queue. */
  readonly queueOffset: number;
}
