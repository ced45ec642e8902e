// Uses the types from CommonJS.

import rocketmq = require('rocketmq-thin');

const connect: (options: rocketmq.ClientOptions) => Promise<rocketmq.Client> = rocketmq.Client.connect;
export = connect;
