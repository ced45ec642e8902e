// Send a message, receive it, keep it from others for a moment, receive it again, acknowledge it.
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

        // Waits until there is a message. Nobody else gets it for the invisible duration, 30 s by default.
        for (delivery in consumer.receive()) {
            println("received     ${delivery.body.decodeToString()}, attempt ${delivery.attempt}")
            // Not done with it: from one second on it may be received again, by anybody in the group.
            consumer.changeInvisible(delivery, 1.seconds)
            println("put back     for 1 s")
        }

        for (delivery in consumer.receive()) {
            println("received     ${delivery.body.decodeToString()}, attempt ${delivery.attempt}")
            // Done: it never comes back. Without this it would, after the invisible duration.
            consumer.ack(delivery)
            println("acknowledged")
        }
    }
}
