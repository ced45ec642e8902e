// Receives only some messages of a topic: by their tags, or by an SQL expression on their properties.
//
//     java -cp ... MainKt HOST:PORT

import rocketmq.thin.Client
import rocketmq.thin.Filter
import rocketmq.thin.Message
import rocketmq.thin.SimpleConsumer

suspend fun main(arguments: Array<String>) {
    val endpoint = arguments.firstOrNull() ?: "127.0.0.1:8081"
    Client.connect(endpoint).use { client ->
        val producer = client.producer { topics("orders") }
        val tagged = client.simpleConsumer("treasury") { subscribe("orders", Filter.tags("paid", "refunded")) }
        val expensive =
            client.simpleConsumer("fraud-eu") { subscribe("orders", Filter.sql("amount > 100 AND region = 'eu'")) }

        suspend fun send(order: String, tag: String, amount: String, region: String) =
            producer.send(
                Message("orders", order, tag = tag, properties = mapOf("amount" to amount, "region" to region))
            )
        send("order 1", "paid", "250", "eu")
        send("order 2", "new", "120", "eu")
        send("order 3", "paid", "15", "us")
        send("order 4", "new", "900", "us")

        println("by tag       ${receiveTwo(tagged)}")
        println("by SQL       ${receiveTwo(expensive)}")
    }
}

/** Waits for two messages and acknowledges them. */
suspend fun receiveTwo(consumer: SimpleConsumer): String {
    val orders = mutableListOf<String>()
    while (orders.size < 2) {
        for (delivery in consumer.receive()) {
            orders += delivery.body.decodeToString()
            consumer.ack(delivery)
        }
    }
    return orders.sorted().joinToString()
}
