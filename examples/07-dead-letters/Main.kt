// Moves messages that can't be processed to the dead letters, after the last attempt or at once, and reads them.
//
//     rocketmq-thin-proxy group create parsers --max-retries 1
//     java -cp ... MainKt HOST:PORT

import kotlin.time.Duration
import rocketmq.thin.Client
import rocketmq.thin.Delivery
import rocketmq.thin.Message
import rocketmq.thin.SimpleConsumer

suspend fun main(arguments: Array<String>) {
    val endpoint = arguments.firstOrNull() ?: "127.0.0.1:8081"
    Client.connect(endpoint).use { client ->
        val producer = client.producer { topics("documents") }
        val consumer = client.simpleConsumer("parsers") { subscribe("documents") }

        producer.send(Message("documents", "half a document"))
        repeat(2) {
            val delivery = receiveOne(consumer)
            println("failed       ${delivery.body.decodeToString()}, attempt ${delivery.attempt}")
            // Delivered again at once. The group allows one retry.
            consumer.nack(delivery, Duration.ZERO)
        }

        producer.send(Message("documents", "no document"))
        val delivery = receiveOne(consumer)
        println("gave up      ${delivery.body.decodeToString()}")
        consumer.deadLetter(delivery)

        // Each group has a topic for its dead letters.
        val reader = client.simpleConsumer("support") { subscribe("%DLQ%parsers") }
        val letters =
            List(2) {
                val letter = receiveOne(reader)
                reader.ack(letter)
                letter.body.decodeToString()
            }
        for (letter in letters.sorted()) println("dead letter  $letter")
    }
}

suspend fun receiveOne(consumer: SimpleConsumer): Delivery {
    while (true) consumer.receive(maxMessages = 1).firstOrNull()?.let { return it }
}
