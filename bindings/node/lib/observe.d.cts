// What an application sees of its clients.

import { RocketMQError } from './error.cjs';
import { Delivery, Message, Receipt } from './index.cjs';

/** Functions for the levels that an application wants to see. `this` is the object. */
export interface Logger {
  debug?(message: string, ...details: unknown[]): void;
  info?(message: string, ...details: unknown[]): void;
  warn?(message: string, ...details: unknown[]): void;
  error?(message: string, ...details: unknown[]): void;
}

/** How a delivery is settled. */
export type Settlement = 'ack' | 'retry' | 'deadLetter' | 'changeInvisible';

type Writable<T> = { -readonly [Field in keyof T]: T[Field] };

/** Functions that are called before and after operations. What they throw is logged and has no other effect. */
export interface Interceptor {
  /** Before a send. What it changes is sent; the caller's own message stays as it is. */
  beforeSend?(message: Omit<Writable<Message>, 'properties'> & { properties: Record<string, string> }): void;
  afterSend?(message: Message, result: PromiseSettledResult<Receipt>): void;
  beforeReceive?(receive: { readonly group: string }): void;
  afterReceive?(receive: { readonly group: string }, result: PromiseSettledResult<Delivery[]>): void;
  beforeSettle?(settle: SettleInfo): void;
  /** Is not called for messages of push consumers, which settle in the background. */
  afterSettle?(settle: SettleInfo, result: PromiseSettledResult<void>): void;
}

/** A delivery that is settled. */
export interface SettleInfo {
  readonly group: string;
  readonly delivery: Delivery;
  readonly settlement: Settlement;
}

/** Whether a client can reach its servers. */
export interface Health {
  /** `degraded`: some server does not answer, or refuses the client. */
  readonly status: 'connecting' | 'connected' | 'degraded' | 'lost' | 'closed';
  /** What is wrong. */
  readonly error: RocketMQError | undefined;
  /** How many connections are open. */
  readonly connections: number;
  /** The same for each address in use. */
  readonly endpoints: readonly {
    readonly endpoint: string;
    readonly status: Health['status'];
    readonly error: RocketMQError | undefined;
    readonly connections: number;
  }[];
}

/** What a client has counted, with a point for each set of labels. */
export interface Metric {
  /** Such as `rocketmq_send_cost_time`. The first six have the names of Apache's clients. */
  readonly name: string;
  /** What it measures. */
  readonly description: string;
  /** `ms`, `By` for bytes, or a word in braces for a count of things, such as `{message}`. */
  readonly unit: string;
  /** Empty if nothing has been counted. */
  readonly points: readonly {
    readonly labels: Readonly<Record<string, string>>;
    readonly value: number | Histogram;
  }[];
}

/** How values are distributed. */
export interface Histogram {
  /** The upper bounds of the buckets but the last, which has none. */
  readonly bounds: readonly number[];
  /** How many values each bucket holds: one more than there are bounds. */
  readonly counts: readonly number[];
  /** The sum of all values. */
  readonly sum: number;
}
