// Exports the same classes as `require`, so that a program may use both.
import rocketmq from './index.cjs';

export const { Client, Producer, Transaction, SimpleConsumer, Messages, PushConsumer, Delivery, RocketMQError } = rocketmq;
