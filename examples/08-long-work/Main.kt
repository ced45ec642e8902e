// Processes a message for longer than its lease: the client renews the lease, so no other consumer gets the message.
//
//     java -cp ... MainKt HOST:PORT

import kotlin.time.Duration.Companion.hours
import kotlin.time.Duration.Companion.seconds
import rocketmq.thin.Client
import rocketmq.thin.Message

// The shortest lease that servers allow.
val LEASE = 10.seconds

suspend fun main(arguments: Array<String>) {
    val endpoint = arguments.firstOrNull() ?: "127.0.0.1:8081"
    Client.connect(endpoint).use { client ->
        val producer = client.producer { topics("videos") }
        val worker = client.simpleConsumer("encoders") { subscribe("videos") }
        val colleague = client.simpleConsumer("encoders") { subscribe("videos") }

        producer.send(Message("videos", "a long film"))
        for (delivery in worker.receive(invisibleDuration = LEASE)) {
            println("received     ${delivery.body.decodeToString()}, for 10 s")
            // Renews the lease in the background until the delivery is settled or dropped, for at most an hour.
            worker.keepLease(delivery, 1.hours)

            val elsewhere = colleague.receive(awaitDuration = 15.seconds)
            println("elsewhere    ${elsewhere.size} messages in 15 s")

            worker.ack(delivery)
            println("acknowledged after 15 s")
        }
    }
}
