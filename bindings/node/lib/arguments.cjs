'use strict';

// Checks the arguments of callers: a misspelt or mistyped argument fails with its name, and is not ignored.
// A check is a function of a value and its path. It returns the value that the native side takes, or throws a
// `TypeError`.

const { isDate, isUint8Array } = require('node:util/types');

function refuse(value, path, expected) {
  throw new TypeError(`${path} must be ${expected}, not ${describe(value)}`);
}

function describe(value) {
  if (value === null || value === undefined) return String(value);
  if (Array.isArray(value)) return 'an array';
  switch (typeof value) {
    case 'string':
      return `the string ${JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}...` : value)}`;
    case 'number':
    case 'bigint':
    case 'boolean':
      return `the ${typeof value} ${value}`;
    case 'object':
      return `an object of class ${value.constructor?.name ?? 'Object'}`;
    default:
      return `a ${typeof value}`;
  }
}

const isObject = (value) => typeof value === 'object' && value !== null;
const isIterable = (value) => isObject(value) && typeof value[Symbol.iterator] === 'function';

/** Refuses a string that has no UTF-8 form. Its conversion would replace the lone surrogates. */
function wellFormed(value, path) {
  return value.isWellFormed() ? value : refuse(value, path, 'a string without lone surrogates');
}

function string(value, path) {
  return typeof value === 'string' ? wellFormed(value, path) : refuse(value, path, 'a string');
}

function count(value, path) {
  const valid = Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff;
  return valid ? value : refuse(value, path, 'a whole number from 0 to 4294967295');
}

function bytes(value, path) {
  const valid = Number.isSafeInteger(value) && value >= 0;
  return valid ? value : refuse(value, path, `a whole number of bytes from 0 to ${Number.MAX_SAFE_INTEGER}`);
}

function position(value, path) {
  const valid = Number.isSafeInteger(value) && value >= 0;
  return valid ? value : refuse(value, path, `a whole number from 0 to ${Number.MAX_SAFE_INTEGER}`);
}

function milliseconds(value, path) {
  const valid = Number.isFinite(value) && value >= 0 && value <= 1.8e22;
  return valid ? value : refuse(value, path, 'a number of milliseconds from 0 to 1.8e22');
}

function integer(value, path) {
  const valid = Number.isInteger(value) && value >= -0x8000_0000 && value <= 0x7fff_ffff;
  return valid ? value : refuse(value, path, 'a whole number from -2147483648 to 2147483647');
}

function number(value, path) {
  return typeof value === 'number' ? value : refuse(value, path, 'a number');
}

function boolean(value, path) {
  return typeof value === 'boolean' ? value : refuse(value, path, 'true or false');
}

function callback(value, path) {
  return typeof value === 'function' ? value : refuse(value, path, 'a function');
}

/** Returns the milliseconds since 1970 of a `Date`. */
function date(value, path) {
  return isDate(value) && value.getTime() >= 0 ? value.getTime() : refuse(value, path, 'a Date from 1970 on');
}

/** Accepts one of these strings. */
function oneOf(...words) {
  const expected = words.map((word) => `'${word}'`).join(' or ');
  return (value, path) => (words.includes(value) ? value : refuse(value, path, expected));
}

function content(value, path) {
  if (typeof value === 'string') return wellFormed(value, path);
  return isUint8Array(value) ? value : refuse(value, path, 'a string or a Uint8Array');
}

function abortSignal(value, path) {
  const valid = isObject(value) && typeof value.throwIfAborted === 'function';
  return valid ? value : refuse(value, path, 'an AbortSignal');
}

/** Accepts an iterable, and returns its items as an array. A string is not treated as an iterable of its letters. */
function listOf(item, expected) {
  return (value, path) => {
    if (!isIterable(value)) refuse(value, path, expected);
    return Array.from(value, (each, index) => item(each, `${path}[${index}]`));
  };
}

/** As `listOf`, but also accepts a single item, for which `isOne` returns true. */
function oneOrMore(item, isOne, expected) {
  const many = listOf(item, expected);
  return (value, path) => (isOne(value) ? [item(value, path)] : many(value, path));
}

const strings = oneOrMore(string, (value) => typeof value === 'string', 'a string or an iterable of strings');

/** Accepts an object whose values are strings. */
function dictionary(value, path) {
  if (!isObject(value) || isIterable(value)) refuse(value, path, 'an object of strings');
  for (const name of Object.keys(value)) {
    wellFormed(name, `the name of a field of ${path}`);
    string(value[name], `${path}[${JSON.stringify(name)}]`);
  }
  return value;
}

/**
 * Accepts an object with these fields, and returns a copy. `null` means the same as `undefined`: the field is left out.
 * Other fields are refused unless they are in `ignored` or undefined.
 */
function record(fields, { required = [], ignored = [] } = {}) {
  const names = Object.keys(fields);
  const known = new Set([...names, ...ignored]);
  const expected = `an object with ${names.join(', ')}`;
  return (value, path) => {
    if (!isObject(value) || isIterable(value)) refuse(value, path, expected);
    for (const name of Object.keys(value)) {
      if (!known.has(name) && value[name] !== undefined) {
        throw new TypeError(`${path} has no field ${name}; it takes ${names.join(', ')}`);
      }
    }
    const copy = {};
    for (const name of names) {
      const given = value[name];
      if ((given !== undefined && given !== null) || required.includes(name)) {
        copy[name] = fields[name](given, `${path}.${name}`);
      }
    }
    return copy;
  };
}

const credentials = record(
  { accessKey: string, secretKey: string, sessionToken: string, expiresAt: date },
  { required: ['accessKey', 'secretKey'] },
);
const tlsOptions = record({
  ca: content,
  cert: content,
  key: content,
  serverName: string,
  dangerouslySkipVerification: boolean,
});
const retry = record({ maxAttempts: count, initialMs: milliseconds, maxMs: milliseconds });
const filteredSubscription = record({ topic: string, tags: strings, sql: string }, { required: ['topic'] });

function tls(value, path) {
  if (typeof value === 'boolean') return value;
  return isObject(value) ? tlsOptions(value, path) : refuse(value, path, 'true, false or an object with ca, cert, key, ...');
}

/** Accepts credentials, or a function that provides them. */
function credentialsOrProvider(value, path) {
  return typeof value === 'function' ? value : credentials(value, path);
}

/** Accepts an object of any class. Those of the named fields that it has must be functions. */
function withFunctions(...names) {
  return (value, path) => {
    if (!isObject(value)) refuse(value, path, `an object with ${names.join(', ')}`);
    for (const name of names) {
      if (value[name] !== undefined && value[name] !== null) callback(value[name], `${path}.${name}`);
    }
    return value;
  };
}

const logger = withFunctions('debug', 'info', 'warn', 'error');
const interceptors = listOf(
  withFunctions('beforeSend', 'afterSend', 'beforeReceive', 'afterReceive', 'beforeSettle', 'afterSettle'),
  'an iterable of interceptors',
);

function subscription(value, path) {
  if (typeof value === 'string') return string(value, path);
  const { tags, sql, ...given } = filteredSubscription(value, path);
  if (tags !== undefined && sql !== undefined) throw new TypeError(`${path} has both tags and sql; it takes one of them`);
  return { ...given, tags, sql };
}

const subscriptions = oneOrMore(
  subscription,
  (value) => typeof value === 'string' || (isObject(value) && !isIterable(value)),
  'a subscription or an iterable of subscriptions',
);

const connectOptions = record(
  {
    endpoints: strings,
    namespace: string,
    credentials: credentialsOrProvider,
    tls,
    startup: oneOf('eager', 'wait', 'lazy'),
    requestTimeoutMs: milliseconds,
    operationTimeoutMs: milliseconds,
    startupTimeoutMs: milliseconds,
    retry,
    logger,
    interceptors,
  },
  { required: ['endpoints'] },
);

/** Accepts the options of a client, or a string that contains only its endpoints. */
function clientOptions(value, path) {
  return connectOptions(typeof value === 'string' ? { endpoints: value } : value, path);
}

const producerOptions = record({
  topics: strings,
  maxInFlightMessages: count,
  maxInFlightBytes: bytes,
  compressAbove: bytes,
  checker: callback,
});

/** Accepts the options of a consumer, which has either subscriptions or the parent topic of its lite topics. */
function consumer(fields, required) {
  const options = record({ group: string, subscriptions, lite: string, ...fields }, { required });
  return (value, path) => {
    const given = options(value, path);
    if ((given.subscriptions === undefined) === (given.lite === undefined)) {
      throw new TypeError(`${path} must have either subscriptions or lite`);
    }
    return given;
  };
}

const simpleConsumerOptions = consumer({ maxBodySize: bytes }, ['group']);
const pushConsumerOptions = consumer(
  {
    handler: callback,
    concurrency: count,
    maxCachedMessages: count,
    maxCachedBytes: bytes,
    invisibleMs: milliseconds,
    maxRate: number,
    maxBodySize: bytes,
  },
  ['group', 'handler'],
);
const streamOptions = record({ maxMessages: count, maxBytes: bytes, invisibleMs: milliseconds, signal: abortSignal });
const receiveOptions = record({ maxMessages: count, invisibleMs: milliseconds, awaitMs: milliseconds, signal: abortSignal });
const closeOptions = record({ deadlineMs: milliseconds, signal: abortSignal });
const callOptions = record({ signal: abortSignal });

const offsetPolicy = oneOf('last', 'min', 'max');
const offsetPosition = record({ offset: position, tail: position, timestamp: date });

/** Accepts a word, or an object with one field. Returns an object with one field. */
function offsetOption(value, path) {
  if (!isObject(value)) return { policy: offsetPolicy(value, path) };
  const given = offsetPosition(value, path);
  if (Object.keys(given).length !== 1) throw new TypeError(`${path} must have one of offset, tail and timestamp`);
  return given;
}

const subscribeLiteOptions = record({ start: offsetOption, signal: abortSignal });

const message = record(
  {
    topic: string,
    body: content,
    tag: string,
    keys: strings,
    properties: dictionary,
    messageGroup: string,
    deliverAt: date,
    delayMs: milliseconds,
    priority: integer,
    liteTopic: string,
  },
  {
    required: ['topic', 'body'],
    // Further fields of a delivery. They are ignored, so that a program can forward it: `send({ ...delivery, topic })`.
    ignored: [
      'messageId',
      'bornAt',
      'bornHost',
      'storedAt',
      'attempt',
      'corrupted',
      'queueId',
      'queueOffset',
      'deadLetterOrigin',
      'traceParent',
    ],
  },
);
const messages = listOf(message, 'an iterable of messages');

/** Returns the signal in the options that every call takes as its last argument. */
function signalOf(call) {
  return call === undefined ? undefined : callOptions(call, 'call').signal;
}

module.exports = {
  clientOptions,
  closeOptions,
  credentials,
  isObject,
  listOf,
  message,
  messages,
  milliseconds,
  oneOf,
  producerOptions,
  pushConsumerOptions,
  receiveOptions,
  record,
  refuse,
  signalOf,
  simpleConsumerOptions,
  streamOptions,
  string,
  subscribeLiteOptions,
  subscription,
};
