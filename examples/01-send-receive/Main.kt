// Sends a message, receives it, changes its invisible time, receives it again, and acknowledges it.
//
//     java -cp ... MainKt HOST:PORT

import kotlin.time.Duration.Companion.seconds
import rocketmq.thin.Client
import rocketmq.thin.Message

suspend fun main(arguments: Array<String>) {
    val endpoint = arguments.firstOrNull() ?: "127.0.0.1:8081"
    Client.connect(endpoint).use { client ->
        val producer = client.producer { topics("greetings") }
        val consumer = client.simpleConsumer("readers") { subscribe("greetings") }

        producer.send(Message("greetings", "hello", tag = "en"))
        println("sent         hello")

        // Waits for a message. It is invisible to other consumers of the group for 30 s, the default.
        for (delivery in consumer.receive()) {
            println("received     ${delivery.body.decodeToString()}, attempt ${delivery.attempt}")
            // Not processed: after one second, any consumer of the group may receive it again.
            consumer.changeInvisible(delivery, 1.seconds)
            println("put back     for 1 s")
        }

        for (delivery in consumer.receive()) {
            println("received     ${delivery.body.decodeToString()}, attempt ${delivery.attempt}")
            // Processed: it is not delivered again. Without the ack, it would be, after the invisible time.
            consumer.ack(delivery)
            println("acknowledged")
        }
    }
}
