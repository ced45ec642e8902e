// Simple and push consumers.

import {
  CallOptions,
  CloseOptions,
  CloseReport,
  Delivery,
  ReceiveOptions,
  Settled,
  StreamOptions,
  Subscription,
} from './index.cjs';

/**
 * Where a group starts in a lite topic. `last`: at the first message that it has not consumed. `min`: at the first message.
 * `max`: after the last message. `offset`: at this offset. `tail`: this many messages before the first one that the group
 * has not consumed. `timestamp`: at the first message that was stored at this time or later, which Apache's brokers ignore.
 */
export type OffsetOption =
  | 'last'
  | 'min'
  | 'max'
  | { readonly offset: number; readonly tail?: never; readonly timestamp?: never }
  | { readonly tail: number; readonly offset?: never; readonly timestamp?: never }
  | { readonly timestamp: Date; readonly offset?: never; readonly tail?: never };

/** Options of `subscribeLite`. */
export interface SubscribeLiteOptions extends CallOptions {
  /** Where the group starts in the lite topic (where it was). Its members share the position. */
  readonly start?: OffsetOption | undefined;
}

/**
 * The subscriptions of simple and push consumers. Lite consumers reject `subscribe` and `unsubscribe` with
 * `InvalidArgument`, and other consumers the methods of lite topics.
 */
export interface Consumer {
  /**
   * Subscribes to another topic, or changes the filter of a subscribed topic. Messages that matched the previous filter and
   * that the application has not received are given back. Rejects with `TopicNotFound`; then nothing changes.
   */
  subscribe(subscription: string | Subscription, call?: CallOptions): Promise<void>;
  /**
   * Ends the subscription of a topic. Its messages that the application has not received are given back. Deliveries of a
   * simple consumer can still be settled. Running handlers of a push consumer continue, and their messages are settled; no
   * more handlers are called for the topic. A push consumer without topics is idle.
   */
  unsubscribe(topic: string, call?: CallOptions): Promise<void>;
  /** Returns the current subscriptions. For a consumer of lite topics, their topic. */
  subscriptions(): Subscription[];
  /** Subscribes to a lite topic. If the consumer is subscribed to it already, nothing changes. */
  subscribeLite(liteTopic: string, options?: SubscribeLiteOptions): Promise<void>;
  /** Ends the subscription of a lite topic. */
  unsubscribeLite(liteTopic: string, call?: CallOptions): Promise<void>;
  /** Returns the lite topics that the consumer is subscribed to. */
  liteTopics(): string[];
  /** Yields the lite topics whose subscription the server ends from now on, until the consumer is closed. */
  liteRevocations(call?: CallOptions): AsyncGenerator<string, void, undefined>;
}

/** A stream of deliveries, which fetches ahead. Leaving a loop gives back deliveries that the loop has not reached. */
export class Messages implements AsyncIterableIterator<Delivery>, AsyncDisposable {
  private constructor();
  /** Waits for the next delivery. `done` once the stream or its consumer is closed. Rejects if a receive fails, which ends it. */
  next(): Promise<IteratorResult<Delivery, undefined>>;
  /** Closes the stream, as the end of a loop does. */
  return(value?: undefined): Promise<IteratorResult<Delivery, undefined>>;
  /** Ends the stream, and gives back deliveries that were not handed out. */
  close(): Promise<void>;
  [Symbol.asyncIterator](): this;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Calls a handler for each message. The process does not end before the consumer is closed. */
export class PushConsumer implements Consumer, AsyncDisposable {
  private constructor();
  /**
   * Calls no handlers, and receives nothing, until `resume`. Running handlers continue. Messages that wait for a handler
   * stay in the client, and their leases are renewed: other members of the group do not get them. `close` gives them back.
   */
  pause(): void;
  /** Resumes receiving and handling after a `pause`. */
  resume(): void;
  /** Whether the consumer is paused. */
  readonly isPaused: boolean;
  /**
   * Gives back messages that no handler has begun, and waits for running handlers. A handler must not wait for the close
   * of its own consumer, which waits for the handler.
   */
  close(options?: CloseOptions): Promise<CloseReport>;
  subscribe(subscription: string | Subscription, call?: CallOptions): Promise<void>;
  unsubscribe(topic: string, call?: CallOptions): Promise<void>;
  subscriptions(): Subscription[];
  subscribeLite(liteTopic: string, options?: SubscribeLiteOptions): Promise<void>;
  unsubscribeLite(liteTopic: string, call?: CallOptions): Promise<void>;
  liteTopics(): string[];
  liteRevocations(call?: CallOptions): AsyncGenerator<string, void, undefined>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Receives messages one call at a time. */
export class SimpleConsumer implements Consumer, AsyncDisposable {
  private constructor();
  /** Waits for messages of any subscribed topic. Returns an empty array if no message arrives in time. */
  receive(options?: ReceiveOptions): Promise<Delivery[]>;
  /** Fetches messages ahead, and yields one at a time until the loop is left, `signal` aborts, or a receive fails. */
  messages(options?: StreamOptions): Messages;
  /** Acknowledges a delivery. Rejects with `InvalidReceipt` if its invisible time has expired. */
  ack(delivery: Delivery, call?: CallOptions): Promise<void>;
  /** Acknowledges several deliveries. The results are in the order of the deliveries. */
  ackAll(deliveries: Iterable<Delivery>, call?: CallOptions): Promise<Settled<void>[]>;
  /**
   * Makes a delivery invisible to other consumers for `invisibleMs` from now. 0 makes it visible at once. Rejects with
   * `InvalidReceipt` if its invisible time has expired, and with `InvalidArgument` above 12 hours.
   */
  changeInvisible(delivery: Delivery, invisibleMs: number, call?: CallOptions): Promise<void>;
  /**
   * Returns a delivery that could not be processed. It is delivered again after `afterMs`, with a higher `attempt`. Rejects
   * as `changeInvisible` does.
   */
  nack(delivery: Delivery, afterMs: number, call?: CallOptions): Promise<void>;
  /** Moves a delivery to the dead-letter topic, whose name is `%DLQ%` and the group's name. Rejects with `InvalidReceipt`. */
  deadLetter(delivery: Delivery, call?: CallOptions): Promise<void>;
  /** Keeps a delivery invisible until it is settled or garbage-collected, for at most `maxMs`. Throws `InvalidReceipt`. */
  keepLease(delivery: Delivery, maxMs: number): void;
  subscribe(subscription: string | Subscription, call?: CallOptions): Promise<void>;
  unsubscribe(topic: string, call?: CallOptions): Promise<void>;
  subscriptions(): Subscription[];
  subscribeLite(liteTopic: string, options?: SubscribeLiteOptions): Promise<void>;
  unsubscribeLite(liteTopic: string, call?: CallOptions): Promise<void>;
  liteTopics(): string[];
  liteRevocations(call?: CallOptions): AsyncGenerator<string, void, undefined>;
  /** Accepts no more calls, and waits for outstanding acks. */
  close(options?: CloseOptions): Promise<CloseReport>;
  [Symbol.asyncDispose](): Promise<void>;
}
