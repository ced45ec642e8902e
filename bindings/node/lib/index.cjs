'use strict';

// The classes of the package.

const { Client } = require('./client.cjs');
const { Producer, Transaction } = require('./producer.cjs');
const { PushConsumer } = require('./push-consumer.cjs');
const { Messages } = require('./messages.cjs');
const { SimpleConsumer } = require('./simple-consumer.cjs');
const { Delivery } = require('./delivery.cjs');
const { RocketMQError } = require('./error.cjs');

module.exports = { Client, Producer, Transaction, SimpleConsumer, Messages, PushConsumer, Delivery, RocketMQError };
