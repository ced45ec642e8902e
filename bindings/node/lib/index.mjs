// The same objects as `require` gives, so that both ways in one program share their classes and their thread.
import rocketmq from './index.cjs';

export const { Client, Producer, SimpleConsumer, Delivery, RocketMQError } = rocketmq;
