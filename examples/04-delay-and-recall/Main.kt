// Sends delayed messages, and recalls one before it is delivered.
//
//     rocketmq-thin-proxy topic create reminders --type delay
//     java -cp ... MainKt HOST:PORT

import java.time.Instant
import kotlin.time.Duration.Companion.seconds
import rocketmq.thin.Client
import rocketmq.thin.Message

suspend fun main(arguments: Array<String>) {
    val endpoint = arguments.firstOrNull() ?: "127.0.0.1:8081"
    Client.connect(endpoint).use { client ->
        val producer = client.producer { topics("reminders") }
        val consumer = client.simpleConsumer("people") { subscribe("reminders") }

        val sentAt = Instant.now()
        producer.send(Message("reminders", "drink water").delay(2.seconds))
        println("sent         drink water, for 2 s later")

        val receipt = producer.send(Message("reminders", "go home").deliverAt(sentAt.plusSeconds(8)))
        println("sent         go home, for 8 s later")

        producer.recall(receipt)
        println("recalled     go home")

        for (delivery in consumer.receive()) {
            val early = Instant.now() < sentAt.plusSeconds(2)
            println("received     ${delivery.body.decodeToString()}, ${if (early) "early" else "not early"}")
            consumer.ack(delivery)
        }

        val more = consumer.receive(awaitDuration = 10.seconds)
        println("received     ${more.size} more")
    }
}
