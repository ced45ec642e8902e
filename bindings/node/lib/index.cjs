'use strict';

const { Client } = require('./client.cjs');
const { Producer } = require('./producer.cjs');
const { SimpleConsumer } = require('./consumer.cjs');
const { Delivery } = require('./delivery.cjs');
const { RocketMQError } = require('./error.cjs');

module.exports = { Client, Producer, SimpleConsumer, Delivery, RocketMQError };
