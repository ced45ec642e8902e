// Uses lite topics, small topics within a topic: a consumer receives only the lite topics that it subscribes to.
//
//     rocketmq-thin-proxy topic create chats --type lite
//     rocketmq-thin-proxy group create phones --lite-bind-topic chats
//     java -cp ... MainKt HOST:PORT

import kotlinx.coroutines.CompletableDeferred
import rocketmq.thin.Client
import rocketmq.thin.ConsumeResult
import rocketmq.thin.Delivery
import rocketmq.thin.Message

suspend fun main(arguments: Array<String>) {
    val endpoint = arguments.firstOrNull() ?: "127.0.0.1:8081"
    val first = CompletableDeferred<Delivery>()
    Client.connect(endpoint).use { client ->
        val producer = client.producer { topics("chats") }
        val consumer =
            client.pushConsumer("phones") {
                lite("chats")
                handler { delivery ->
                    first.complete(delivery)
                    ConsumeResult.Ack
                }
            }
        consumer.use {
            consumer.subscribeLite("alice")

            producer.send(Message("chats", "hello Bob").liteTopic("bob"))
            producer.send(Message("chats", "hello Alice").liteTopic("alice"))

            val delivery = first.await()
            println("received     ${delivery.body.decodeToString()} in ${delivery.liteTopic}")
            consumer.unsubscribeLite("alice")
        }
    }
}
