/// <reference types="node" />

import { RocketMQError } from './error.cjs';
import { Health, Interceptor, Logger, Metric } from './observe.cjs';

export { RocketMQError, type ErrorKind } from './error.cjs';
export type * from './observe.cjs';

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
  /**
   * The credentials that requests are signed with, or a function that provides them: it is called before connecting,
   * before the credentials expire, and after a server has refused them (none).
   */
  readonly credentials?: Credentials | CredentialsProvider | undefined;
  /** `true` uses TLS with the certificate authorities of the operating system. (`false`, except for `https://` endpoints.) */
  readonly tls?: boolean | TlsOptions | undefined;
  /**
   * `eager`: connecting fails at once if nobody listens. `wait`: it waits for a server that is not there yet, up to
   * `startupTimeoutMs`. `lazy`: only the calls that need a server wait for one. (`eager`)
   */
  readonly startup?: 'eager' | 'wait' | 'lazy' | undefined;
  /** The timeout of one attempt (3000). A receive waits this much longer than `awaitMs`. */
  readonly requestTimeoutMs?: number | undefined;
  /** The timeout of one call, including all retries (10000). */
  readonly operationTimeoutMs?: number | undefined;
  /** The timeout for connecting, and for creating a producer or consumer (10000). */
  readonly startupTimeoutMs?: number | undefined;
  /** How failed attempts are retried. */
  readonly retry?: RetryOptions | undefined;
  /**
   * What is told of failures of handlers, of changes of the status, and of what goes on inside of the clients of this
   * process, such as lost connections (nothing is logged). `console` is one. At most 1,024 reports wait to be logged;
   * beyond that they are counted only.
   */
  readonly logger?: Logger | undefined;
  /** What is told of each send, receive and settling, in this order before it and in the opposite order after it (none). */
  readonly interceptors?: Iterable<Interceptor> | undefined;
}

/** Encrypted connections. Texts are in PEM format. */
export interface TlsOptions {
  /** The certificate authorities to trust (those of the operating system). */
  readonly ca?: string | Uint8Array | undefined;
  /** The certificate by which the client authenticates itself (none). */
  readonly cert?: string | Uint8Array | undefined;
  /** Its private key, not encrypted (none). */
  readonly key?: string | Uint8Array | undefined;
  /** The name that the server's certificate must have (the host of the endpoint). */
  readonly serverName?: string | undefined;
  /** Whether any certificate is accepted, which protects against nobody who can change what is sent (`false`). */
  readonly dangerouslySkipVerification?: boolean | undefined;
}

/**
 * Provides credentials. Its first call has the signal of the `connect`. A failure, or no answer within 30 seconds, fails
 * the calls that wait for credentials with `Unauthenticated`; `connect` waits no longer than `startupTimeoutMs`.
 */
export type CredentialsProvider = (call: { readonly signal?: AbortSignal | undefined }) => Credentials | Promise<Credentials>;

/** An access key and its secret, as issued by the server's administrator. */
export interface Credentials {
  readonly accessKey: string;
  /** Signs each request. It is never sent. */
  readonly secretKey: string;
  /** The token of temporary credentials (none). */
  readonly sessionToken?: string | undefined;
  /** When they expire. Before that a client asks its provider for new ones (never). */
  readonly expiresAt?: Date | undefined;
}

/** How failed attempts are retried. The delays are random, below a limit that doubles with each attempt. */
export interface RetryOptions {
  /** The maximum number of attempts of one call (16). With 1, a request that a server may have received is not repeated. */
  readonly maxAttempts?: number | undefined;
  /** The limit of the first delay (20). */
  readonly initialMs?: number | undefined;
  /** The maximum of the limit (1000). */
  readonly maxMs?: number | undefined;
}

/** Which topics a producer sends to, and how much it sends at once. */
export interface ProducerOptions {
  /**
   * Topics that must exist when the producer is created, or at the first send if the client starts lazily (none). It may send
   * to other topics, too.
   */
  readonly topics?: Names | undefined;
  /** The maximum number of messages being sent (4096). Further sends wait. */
  readonly maxInFlightMessages?: number | undefined;
  /** The maximum total size of the bodies being sent, in bytes (64 MiB). Further sends wait. */
  readonly maxInFlightBytes?: number | undefined;
  /** Bodies larger than this, in bytes, are compressed (none are). */
  readonly compressAbove?: number | undefined;
  /**
   * Decides about transactions that were neither committed nor rolled back in time, also those of other producers of the
   * topics, and of processes that have died: so it looks at durable state. If it fails, or the result is `unknown`, the
   * server asks again (none).
   */
  readonly checker?: ((check: OrphanCheck) => Decision | Promise<Decision>) | undefined;
}

/** What happens to the messages of a transaction. */
export type Decision = 'commit' | 'rollback' | 'unknown';

/** A server's question about a message whose transaction was not decided in time. */
export interface OrphanCheck {
  readonly message: {
    readonly topic: string;
    readonly body: Buffer;
    readonly tag: string | undefined;
    readonly keys: readonly string[];
    readonly properties: Readonly<Record<string, string>>;
  };
  readonly messageId: string;
  readonly transactionId: string;
}

/** What a consumer receives: the messages of topics, or of lite topics of one topic. */
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

/** What every consumer has. */
export interface ConsumerOptions {
  /** The consumer group. Its members share the messages. */
  readonly group: string;
  /** The maximum size of a decompressed body, in bytes (64 MiB). A larger one is delivered as corrupted. */
  readonly maxBodySize?: number | undefined;
}

/** What a simple consumer receives. */
export type SimpleConsumerOptions = ConsumerOptions & Sources;

/** What a push consumer receives, and how much of it at a time. */
export type PushConsumerOptions = ConsumerOptions &
  Sources & {
    /** Handles one message. `signal` aborts when the consumer has been closed. */
    readonly handler: (delivery: Delivery, call: { readonly signal: AbortSignal }) => ConsumeResult | Promise<ConsumeResult>;
    /** How many messages are handled at the same time (20). */
    readonly concurrency?: number | undefined;
    /** How many messages are held, waiting or being handled (4096). */
    readonly maxCachedMessages?: number | undefined;
    /** The size of their bodies, in bytes, above which nothing is received (64 MiB). */
    readonly maxCachedBytes?: number | undefined;
    /** The length of a lease, which is renewed while a message waits or is handled (60000). */
    readonly invisibleMs?: number | undefined;
    /** How many messages a second are handled at most (no limit). */
    readonly maxRate?: number | undefined;
  };

/**
 * What happens to a message that was handled. `retry` delivers it again by the group's policy, `{ retryAfterMs }` after
 * this time, `deadLetter` moves it to the topic `%DLQ%` and the group's name; `ack` and `undefined` acknowledge it. A
 * handler that throws means `retry`, and so does an `Error` that it returns.
 *
 * Other strings, and plain objects with a field such as `retry`, `retryAfter`, `after`, `delay` or `deadLetter`, are taken for
 * misspelt results: a `TypeError` is logged, and the message is delivered again. Any other value, which a function happens
 * to return, acknowledges.
 */
export type ConsumeResult = 'ack' | 'retry' | 'deadLetter' | { readonly retryAfterMs: number } | void;

/** How much a stream fetches ahead. */
export interface StreamOptions extends CallOptions {
  /** The maximum number of messages that wait (128). */
  readonly maxMessages?: number | undefined;
  /** The size of their bodies, in bytes, above which nothing more is fetched (64 MiB). */
  readonly maxBytes?: number | undefined;
  /** How long deliveries are invisible to other consumers (30000). The leases of those that wait are kept. */
  readonly invisibleMs?: number | undefined;
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
  /** The maximum number of deliveries, 1 or more (32). Servers return at most 32. */
  readonly maxMessages?: number | undefined;
  /** How long the deliveries are invisible to other consumers (30000). Servers allow 10 seconds to 12 hours. */
  readonly invisibleMs?: number | undefined;
  /**
   * How long to wait for the first message (20000). With 0, it returns what has arrived already, and what comes then goes to
   * a later receive.
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
  /** For a delay topic: when it is delivered (at once). */
  readonly deliverAt?: Date | undefined;
  /** The same as a time from the moment it is sent. */
  readonly delayMs?: number | undefined;
  /** For a priority topic: a higher one is delivered first (none). */
  readonly priority?: number | undefined;
  /** For a lite topic: its name within `topic` (none). */
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
  /** What takes back a delayed message, see `Producer.recall`. */
  readonly recallHandle: string | undefined;
}

/** The result of a close. */
export interface CloseReport {
  /** How many outstanding sends and acks were completed. */
  readonly flushed: number;
  /** How many sends and acks were not answered before the deadline. Each failed with kind `Closed`. */
  readonly abandoned: number;
  /** Of push consumers: how many messages were being handled, and were settled in time. */
  readonly handled: number;
  /** Of push consumers: how many messages no handler had begun, and were given back to the server. */
  readonly givenBack: number;
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
  /** Creates a consumer that calls a handler for each message, until it is closed. Rejects as `producer` does. */
  pushConsumer(options: PushConsumerOptions, call?: CallOptions): Promise<PushConsumer>;
  /** Whether the servers can be reached, as the latest calls and heartbeats have shown. */
  health(): Health;
  /** Everything that the client, with its producers and consumers, has counted since it was made. */
  metrics(): Metric[];
  /** The present health, then the health after each change of its status, until the client is closed. */
  statusChanges(call?: CallOptions): AsyncGenerator<Health, void, undefined>;
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
  /** Takes back a delayed message before its time. Resolves to its id. */
  recall(receipt: Pick<Receipt, 'topic' | 'recallHandle'>, call?: CallOptions): Promise<string>;
  /** Begins a transaction. Nothing is sent yet. */
  begin(): Transaction;
  /** Accepts no more sends, and waits for outstanding ones. */
  close(options?: CloseOptions): Promise<CloseReport>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Messages that are delivered together with a local change, or not at all. With `await using` it is rolled back at the
 * end of the block unless it was committed. If it is dropped without a decision, or the process dies, the server keeps
 * its messages hidden and asks the checkers of the topic's producers, of any process.
 */
export class Transaction implements AsyncDisposable {
  private constructor();
  /** Sends a message that is delivered once the transaction is committed. */
  send(message: Message, call?: CallOptions): Promise<Receipt>;
  /** Commits: the messages are delivered. A second decision rejects with `InvalidArgument`. */
  commit(call?: CallOptions): Promise<void>;
  /** Rolls back: the messages are dropped. A second decision rejects with `InvalidArgument`. */
  rollback(call?: CallOptions): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** What consumers of lite topics do. Other consumers reject with `InvalidArgument`. */
export interface LiteConsumer {
  /** Subscribes to a lite topic. */
  subscribeLite(liteTopic: string, call?: CallOptions): Promise<void>;
  /** Ends the subscription of a lite topic. */
  unsubscribeLite(liteTopic: string, call?: CallOptions): Promise<void>;
  /** The lite topics that it is subscribed to. */
  liteTopics(): string[];
  /** The lite topics whose subscription the server ends from now on, until the consumer is closed. */
  liteRevocations(call?: CallOptions): AsyncGenerator<string, void, undefined>;
}

/** Deliveries that are fetched ahead. Leaving a loop gives back what was not handed out. */
export class Messages implements AsyncIterableIterator<Delivery>, AsyncDisposable {
  private constructor();
  next(): Promise<IteratorResult<Delivery, undefined>>;
  return(value?: undefined): Promise<IteratorResult<Delivery, undefined>>;
  /** Ends it, and gives back what was not handed out. */
  close(): Promise<void>;
  [Symbol.asyncIterator](): this;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Calls a handler for each message. While it runs, the process does not end. */
export class PushConsumer implements LiteConsumer, AsyncDisposable {
  private constructor();
  /**
   * Calls no more handlers, and receives nothing, until `resume`. Handlers that run go on. Messages that wait for a handler
   * stay here, and their leases are kept: other members of the group do not get them. `close` gives them back.
   */
  pause(): void;
  /** Goes on after a `pause`. */
  resume(): void;
  readonly isPaused: boolean;
  /**
   * Gives back what no handler has begun, and waits for handlers that run. A handler should not wait for the close of its
   * own consumer, which waits for the handler.
   */
  close(options?: CloseOptions): Promise<CloseReport>;
  subscribeLite(liteTopic: string, call?: CallOptions): Promise<void>;
  unsubscribeLite(liteTopic: string, call?: CallOptions): Promise<void>;
  liteTopics(): string[];
  liteRevocations(call?: CallOptions): AsyncGenerator<string, void, undefined>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Receives messages one call at a time. */
export class SimpleConsumer implements LiteConsumer, AsyncDisposable {
  private constructor();
  /** Waits for messages of any subscribed topic. Returns an empty array if none arrives in time. */
  receive(options?: ReceiveOptions): Promise<Delivery[]>;
  /** Fetches messages ahead, and yields one at a time until the loop is left, `signal` aborts, or a receive fails. */
  messages(options?: StreamOptions): Messages;
  /** Acknowledges a delivery. Rejects with `InvalidReceipt` if its invisible time has expired. */
  ack(delivery: Delivery, call?: CallOptions): Promise<void>;
  /** Acknowledges several deliveries. The results are in the order of the deliveries. */
  ackAll(deliveries: Iterable<Delivery>, call?: CallOptions): Promise<Settled<void>[]>;
  /** Makes a delivery invisible to other consumers for this long from now. 0 makes it visible at once. */
  changeInvisible(delivery: Delivery, invisibleMs: number, call?: CallOptions): Promise<void>;
  /** Returns a delivery that could not be processed. It comes again after this time, as a further attempt. */
  nack(delivery: Delivery, afterMs: number, call?: CallOptions): Promise<void>;
  /** Gives up on a delivery: it moves to the dead-letter topic, `%DLQ%` and the group's name. */
  deadLetter(delivery: Delivery, call?: CallOptions): Promise<void>;
  /** Keeps a delivery invisible until it is settled or collected, for at most this time. Throws `InvalidReceipt`. */
  keepLease(delivery: Delivery, maxMs: number): void;
  /** Subscribes to one more topic, or changes the filter of one. */
  subscribe(subscription: string | Subscription, call?: CallOptions): Promise<void>;
  /** Ends the subscription of a topic. What was received of it can still be settled. */
  unsubscribe(topic: string, call?: CallOptions): Promise<void>;
  subscribeLite(liteTopic: string, call?: CallOptions): Promise<void>;
  unsubscribeLite(liteTopic: string, call?: CallOptions): Promise<void>;
  liteTopics(): string[];
  liteRevocations(call?: CallOptions): AsyncGenerator<string, void, undefined>;
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
  /** When it was to be delivered, if it was delayed. */
  readonly deliverAt: Date | undefined;
  /** The priority of a message that has one. */
  readonly priority: number | undefined;
  /** The lite topic of a message that has one. */
  readonly liteTopic: string | undefined;
  /** For a dead letter: the message that it was. */
  readonly deadLetterOrigin: { readonly topic: string; readonly messageId: string } | undefined;
  /** The W3C trace context of the sender. */
  readonly traceParent: string | undefined;
  /** Whether its lease was kept and is lost all the same: the message comes, or came, again. */
  readonly isLeaseLost: boolean;
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
