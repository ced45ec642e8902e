/// <reference types="node" />

/** How a client reaches and addresses its servers. Times are in milliseconds; what is left out keeps its default. */
export interface ClientOptions {
  /**
   * The addresses of one service; any one that answers is enough. Each is `host:port`, `host` (port 8081),
   * `[::1]:port`, `http://host:port`, or `https://host:port`, which turns TLS on. A string may name several,
   * separated by `,` or `;`.
   */
  readonly endpoints: string | readonly string[];
  /** The namespace of every topic and group. */
  readonly namespace?: string | undefined;
  /** Who we are to a server that asks. */
  readonly credentials?: Credentials | undefined;
  /**
   * `true`: TLS with the certificate authorities that the machine trusts; `{ ca }`: with these only, in PEM.
   * The server's certificate is always verified.
   */
  readonly tls?: boolean | { readonly ca: string | Uint8Array } | undefined;
  /** How long one attempt waits for its answer (3000). */
  readonly requestTimeoutMs?: number | undefined;
  /** How long a call may take, all attempts and pauses together (10000). */
  readonly operationTimeoutMs?: number | undefined;
  /** How long connecting and making a producer or consumer may take (10000). */
  readonly startupTimeoutMs?: number | undefined;
  /** How often and how fast a failed attempt is repeated. */
  readonly retry?: RetryOptions | undefined;
}

/** An access key and its secret, as the server's administrator gave them out. */
export interface Credentials {
  readonly accessKey: string;
  /** Signs each request; it never travels. */
  readonly secretKey: string;
  /** The token of temporary credentials. */
  readonly sessionToken?: string | undefined;
}

/** How failed attempts are repeated. Pauses are random, up to a limit that doubles from `initialMs` to `maxMs`. */
export interface RetryOptions {
  /** The most attempts of one call; 1 never repeats. */
  readonly maxAttempts?: number | undefined;
  readonly initialMs?: number | undefined;
  readonly maxMs?: number | undefined;
}

/** What a producer sends and how much of it at once. */
export interface ProducerOptions {
  /** Topics whose existence is checked before the producer is handed out. Others may be sent to as well. */
  readonly topics?: readonly string[] | undefined;
  /** The most messages under way; a send beyond waits for its turn. */
  readonly maxInFlightMessages?: number | undefined;
  /** The most bytes of bodies under way; a send beyond waits for its turn. */
  readonly maxInFlightBytes?: number | undefined;
}

/** What a consumer receives. */
export interface SimpleConsumerOptions {
  /** The consumer group; its members share the messages. */
  readonly group: string;
  /** Topics, each with or without a filter. All members of a group must say the same here. */
  readonly subscriptions: readonly (string | Subscription)[];
  /** The largest body after decompression, in bytes; a larger one is delivered as corrupted. */
  readonly maxBodySize?: number | undefined;
}

/** One topic and which of its messages: those with one of `tags`, those that satisfy `sql`, or all. */
export type Subscription =
  | { readonly topic: string; readonly tags?: readonly string[] | undefined; readonly sql?: undefined }
  | { readonly topic: string; readonly tags?: undefined; readonly sql: string };

/** What every call takes. */
export interface CallOptions {
  /**
   * Ends the call: its promise rejects with the signal's reason, and its operation is dropped. What the
   * server did by then stays done: an aborted send may still be delivered.
   */
  readonly signal?: AbortSignal | undefined;
}

/** How much one receive asks for and how long it waits. */
export interface ReceiveOptions extends CallOptions {
  /** The most deliveries of one call (32, which is the most servers give). */
  readonly maxMessages?: number | undefined;
  /** How long the deliveries are hidden from others before they come again (30000); servers allow 10 s to 12 h. */
  readonly invisibleMs?: number | undefined;
  /** How long to wait for the first message (20000); servers wait 5 s to 20 s. */
  readonly awaitMs?: number | undefined;
}

export interface CloseOptions extends CallOptions {
  /** How long to wait for sends and acks under way (20000). */
  readonly deadlineMs?: number | undefined;
}

/** A message to send. */
export interface Message {
  readonly topic: string;
  /** The content; a string is sent as UTF-8. It is copied: the array may be reused at once. */
  readonly body: Uint8Array | string;
  /** One word to filter by. */
  readonly tag?: string | undefined;
  /** Words to find it by. A server splits a key at spaces. */
  readonly keys?: readonly string[] | undefined;
  /** Names and values of the application's own. */
  readonly properties?: Readonly<Record<string, string>> | undefined;
}

/** The server's word that a message is stored. */
export interface Receipt {
  /** The message's id, which its deliveries carry. */
  readonly messageId: string;
  readonly topic: string;
  /** Its place in its queue, or -1 when the server didn't say. */
  readonly queueOffset: number;
  /** The server's transaction id; servers fill it for plain messages too. */
  readonly transactionId: string;
}

/** What a bounded close did. */
export interface CloseReport {
  /** Sends and acks that were still under way and got their answer. */
  readonly flushed: number;
  /** Sends and acks that had no answer at the deadline; each failed with kind `Closed`. */
  readonly abandoned: number;
  readonly elapsedMs: number;
}

/** What became of one of many, as `Promise.allSettled` says it. */
export type Settled<T> =
  | { readonly status: 'fulfilled'; readonly value: T }
  | { readonly status: 'rejected'; readonly reason: RocketMQError };

/** One way to one RocketMQ service: its producers and consumers share connections, credentials and namespace. */
export class Client implements AsyncDisposable {
  private constructor();
  /**
   * Checks the options and reaches one of the endpoints.
   * Rejects with `InvalidOptions`, or with `Unavailable`, `Tls` or `Timeout` within `startupTimeoutMs`.
   */
  static connect(options: ClientOptions, call?: CallOptions): Promise<Client>;
  /** A producer, ready to send. Rejects with `TopicNotFound`, `Unauthenticated`, ... as the server says. */
  producer(options?: ProducerOptions, call?: CallOptions): Promise<Producer>;
  /** A consumer, ready to receive. Rejects as `producer` does. */
  simpleConsumer(options: SimpleConsumerOptions, call?: CallOptions): Promise<SimpleConsumer>;
  /** Closes every producer and consumer made from this client, together within the deadline. */
  close(options?: CloseOptions): Promise<CloseReport>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Sends messages. */
export class Producer implements AsyncDisposable {
  private constructor();
  /** Sends one message and waits until the server has stored it. Sends that run at the same time travel together. */
  send(message: Message, call?: CallOptions): Promise<Receipt>;
  /** Sends many; the results stand in the order of the messages. */
  sendAll(messages: Iterable<Message>, call?: CallOptions): Promise<Settled<Receipt>[]>;
  /** Takes no more sends, and waits for those under way. */
  close(options?: CloseOptions): Promise<CloseReport>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Receives messages one call at a time. */
export class SimpleConsumer implements AsyncDisposable {
  private constructor();
  /** Waits for messages of any subscribed topic; none in time is an empty list. */
  receive(options?: ReceiveOptions): Promise<Delivery[]>;
  /**
   * Receives again and again, and gives one delivery at a time, until the loop is left, `signal` aborts, or a
   * receive fails. What was received and not looked at when the loop is left comes again after its invisible
   * time: ask for few messages at once where one takes long.
   */
  deliveries(options?: ReceiveOptions): AsyncGenerator<Delivery, never, undefined>;
  /** Tells the server that a delivery is done with. Rejects with `InvalidReceipt` when its lease is over. */
  ack(delivery: Delivery, call?: CallOptions): Promise<void>;
  /** Acks many; the results stand in the order of the deliveries. */
  ackAll(deliveries: Iterable<Delivery>, call?: CallOptions): Promise<Settled<void>[]>;
  /** Hides a delivery from others for so long from now; 0 gives it back at once. */
  changeInvisible(delivery: Delivery, invisibleMs: number, call?: CallOptions): Promise<void>;
  /** Takes no more calls, and waits for acks under way. */
  close(options?: CloseOptions): Promise<CloseReport>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A message as received, with the lease on it. */
export class Delivery {
  private constructor();
  /** The id its receipt named. */
  readonly messageId: string;
  readonly topic: string;
  /** The content, decompressed; as it came over the wire when `corrupted`. */
  readonly body: Buffer;
  readonly tag: string | undefined;
  readonly keys: readonly string[];
  readonly properties: Readonly<Record<string, string>>;
  /** The group within which the order of messages is kept. */
  readonly messageGroup: string | undefined;
  /** When the sender made it. */
  readonly bornAt: Date | undefined;
  /** Where the sender ran. */
  readonly bornHost: string;
  /** When the server stored it. */
  readonly storedAt: Date | undefined;
  /** How many times it has been delivered, this time included. */
  readonly attempt: number;
  /** Whether the body failed its digest or could not be decompressed. */
  readonly corrupted: boolean;
  readonly queueId: number;
  readonly queueOffset: number;
}

/** What went wrong. */
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
  /** The receipt handle is expired, already used up, or not the server's (40013). */
  | 'InvalidReceipt'
  /** Body, properties or headers exceed a limit (413xx, 431xx). */
  | 'TooLarge'
  /** The server asks to slow down, or a quota is used up (429xx). */
  | 'Throttled'
  /** The server, or the way to it, is in trouble (500xx, connection refused or lost). */
  | 'Unavailable'
  /** The server does not offer this operation (50100, 505xx). */
  | 'Unsupported'
  /** No answer within the time allowed (40800, 504xx, or the caller's own deadline). */
  | 'Timeout'
  /** The answer makes no sense: no status, or a code outside the contract. */
  | 'Protocol'
  /** The options given to the client cannot work. */
  | 'InvalidOptions'
  /** The TLS handshake failed, as with a certificate that is not trusted. */
  | 'Tls'
  /** The client, producer or consumer is closed. */
  | 'Closed'
  /** A defect of the client itself: its code panicked. */
  | 'Internal';

/**
 * Why an operation failed, and what that means for the caller. A value of the wrong type is a plain `Error`
 * instead, and an aborted call rejects with the reason of its signal.
 */
export class RocketMQError extends Error {
  private constructor();
  readonly name: 'RocketMQError';
  readonly kind: ErrorKind;
  /** The server's code, such as 40402; `undefined` when no server answered. */
  readonly code: number | undefined;
  /** Whether the same call may succeed later. */
  readonly retryable: boolean;
  /** Whether the server may have carried out the request all the same: its answer was lost, or says so. */
  readonly maybeDelivered: boolean;
  /** The operation that failed: `connect`, `send`, `receive`, `ack`, ... */
  readonly operation: string;
  /** The address that was asked, as `host:port`. */
  readonly endpoint: string | undefined;
  /** The id of the request, for a search in the server's logs. */
  readonly requestId: string | undefined;
}
