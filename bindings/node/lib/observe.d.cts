// Logs, interceptors, health and metrics of clients.

import { RocketMQError } from './error.cjs';
import { Delivery, Message, Receipt } from './index.cjs';

/** Log functions, one for each level that is logged. `this` is the logger. */
export interface Logger {
  /** Gets events inside the client, such as renewed credentials. `details` are an `Error`, or an object of named values. */
  debug?(message: string, ...details: unknown[]): void;
  /** Gets status changes other than `degraded` and `lost`. */
  info?(message: string, ...details: unknown[]): void;
  /** Gets `degraded` and `lost` statuses, failures that the client recovers from, and failures of interceptors. */
  warn?(message: string, ...details: unknown[]): void;
  /** Gets failures of handlers, checkers and credentials providers. */
  error?(message: string, ...details: unknown[]): void;
}

/** How a delivery is settled. */
export type Settlement = 'ack' | 'retry' | 'deadLetter' | 'changeInvisible';

type Writable<T> = { -readonly [Field in keyof T]: T[Field] };

/** Functions that are called before and after operations. Their exceptions are logged and have no other effect. */
export interface Interceptor {
  /** Called before a send. Its changes are sent; the caller's own message does not change. */
  beforeSend?(message: Omit<Writable<Message>, 'properties'> & { properties: Record<string, string> }): void;
  /** Called with the message that was sent, and with its receipt or the error. */
  afterSend?(message: Message, result: PromiseSettledResult<Receipt>): void;
  /** Called before a consumer waits for messages. */
  beforeReceive?(receive: { readonly group: string }): void;
  /** Called with the deliveries, which are an empty array if none arrived in time, or with the error. */
  afterReceive?(receive: { readonly group: string }, result: PromiseSettledResult<Delivery[]>): void;
  /** Called before a delivery is settled, or stays invisible for longer. */
  beforeSettle?(settle: SettleInfo): void;
  /**
   * Called when a delivery was settled, or with the error. A failed message of a FIFO group that the push consumer itself
   * handles again counts as settled.
   */
  afterSettle?(settle: SettleInfo, result: PromiseSettledResult<void>): void;
}

/** A delivery, and how it is settled. */
export interface SettleInfo {
  /** The consumer group. */
  readonly group: string;
  /** The delivery. */
  readonly delivery: Delivery;
  /** How it is settled. */
  readonly settlement: Settlement;
}

/** Whether a client can reach its servers. */
export interface Health {
  /** `degraded`: there is a connection, but at least one server does not answer or refuses the client. */
  readonly status: 'connecting' | 'connected' | 'degraded' | 'lost' | 'closed';
  /** The failure, if the status is `degraded` or `lost`. */
  readonly error: RocketMQError | undefined;
  /** The number of open connections. */
  readonly connections: number;
  /** The health of each address in use. */
  readonly endpoints: readonly {
    readonly endpoint: string;
    readonly status: Health['status'];
    readonly error: RocketMQError | undefined;
    readonly connections: number;
  }[];
}

/** A metric of a client, with a point for each set of labels. */
export interface Metric {
  /** The name, such as `rocketmq_send_cost_time`. The first six metrics have the names that Apache's clients use. */
  readonly name: string;
  /** The description. */
  readonly description: string;
  /** The unit: `ms`, `By` for bytes, or what is counted in braces, such as `{message}`. */
  readonly unit: string;
  /** Empty if nothing was measured yet. */
  readonly points: readonly {
    readonly labels: Readonly<Record<string, string>>;
    readonly value: number | Histogram;
  }[];
}

/** A distribution of values. */
export interface Histogram {
  /** The upper bounds of the buckets. The last bucket has no bound. */
  readonly bounds: readonly number[];
  /** The number of values in each bucket. There is one entry more than in `bounds`: the last is for values above all bounds. */
  readonly counts: readonly number[];
  /** The sum of all values. */
  readonly sum: number;
}
