// Handles the messages of one message group in the order in which they were sent, and different groups concurrently.
//
//     rocketmq-thin-proxy topic create parcels --type fifo
//     rocketmq-thin-proxy group create tracking --fifo
//     java -cp ... MainKt HOST:PORT

import java.util.concurrent.ConcurrentHashMap
import java.util.concurrent.atomic.AtomicInteger
import kotlin.time.Duration.Companion.seconds
import kotlinx.coroutines.CompletableDeferred
import rocketmq.thin.Client
import rocketmq.thin.ConsumeResult
import rocketmq.thin.Message

suspend fun main(arguments: Array<String>) {
    val endpoint = arguments.firstOrNull() ?: "127.0.0.1:8081"
    Client.connect(endpoint).use { client ->
        val producer = client.producer { topics("parcels") }

        val steps = ConcurrentHashMap<String, List<String>>()
        val left = AtomicInteger(6)
        val all = CompletableDeferred<Unit>()
        client.pushConsumer("tracking") {
            subscribe("parcels")
            handler { delivery ->
                val step = delivery.body.decodeToString()
                if (step == "packed" && delivery.attempt == 1) {
                    // The next message of this parcel is not delivered before this message is acknowledged.
                    ConsumeResult.RetryAfter(1.seconds)
                } else {
                    steps.merge(delivery.messageGroup!!, listOf(step)) { before, added -> before + added }
                    if (left.decrementAndGet() == 0) all.complete(Unit)
                    ConsumeResult.Ack
                }
            }
        }

        for (step in listOf("packed", "shipped", "delivered")) {
            for (parcel in listOf("parcel 1", "parcel 2")) {
                producer.send(Message("parcels", step).messageGroup(parcel))
            }
        }

        all.await()
        for ((parcel, done) in steps.toSortedMap()) println("$parcel     ${done.joinToString()}")
    }
}
