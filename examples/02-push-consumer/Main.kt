// Handles messages as they arrive, several at a time. One fails at its first attempt, and is delivered again.
//
//     java -cp ... MainKt HOST:PORT

import kotlin.time.Duration.Companion.seconds
import kotlinx.coroutines.channels.Channel
import rocketmq.thin.Client
import rocketmq.thin.ConsumeResult
import rocketmq.thin.Message

suspend fun main(arguments: Array<String>) {
    val endpoint = arguments.firstOrNull() ?: "127.0.0.1:8081"
    val handled = Channel<String>(Channel.UNLIMITED)
    Client.connect(endpoint).use { client ->
        val producer = client.producer { topics("invoices") }
        val consumer =
            client.pushConsumer("accounting") {
                subscribe("invoices")
                concurrency = 16
                handler { delivery ->
                    val invoice = delivery.body.decodeToString()
                    if (invoice == "invoice 2" && delivery.attempt == 1) {
                        // Delivered again after 1 s. With Retry, the retry policy of the group decides when.
                        ConsumeResult.RetryAfter(1.seconds)
                    } else {
                        handled.send("$invoice, attempt ${delivery.attempt}")
                        ConsumeResult.Ack
                    }
                }
            }
        // Leaving the block waits for running handlers, and gives back messages that were not handled.
        consumer.use {
            for (number in 1..3) producer.send(Message("invoices", "invoice $number"))

            for (invoice in List(3) { handled.receive() }.sorted()) println("handled      $invoice")
        }
    }
}
