'use strict';

const { Client } = require('./client.cjs');
const { Producer, Transaction } = require('./producer.cjs');
const { PushConsumer } = require('./push.cjs');
const { Messages } = require('./messages.cjs');
const { SimpleConsumer } = require('./consumer.cjs');
const { Delivery } = require('./delivery.cjs');
const { RocketMQError } = require('./error.cjs');

module.exports = { Client, Producer, Transaction, SimpleConsumer, Messages, PushConsumer, Delivery, RocketMQError };
