// Connects with TLS to a server with a private certificate authority, and signs requests with an access key.
//
//     java -cp ... MainKt HOST:PORT ca.pem

import java.io.File
import rocketmq.thin.Client
import rocketmq.thin.Credentials
import rocketmq.thin.Message
import rocketmq.thin.RocketMQException
import rocketmq.thin.Tls

suspend fun main(arguments: Array<String>) {
    val endpoint = arguments.getOrElse(0) { "127.0.0.1:8081" }
    val ca = File(arguments.getOrElse(1) { "ca.pem" }).readBytes()

    // The certificate authorities of the system do not include this authority.
    try {
        Client.connect(endpoint) { tls = Tls.SYSTEM_ROOTS }
    } catch (e: RocketMQException.Tls) {
        println("refused      the certificate is not trusted")
    }

    val client = Client.connect(endpoint) {
        tls = Tls.ca(ca)
        credentials = Credentials("an-access-key", "its secret key")
    }
    client.use {
        val producer = client.producer { topics("secrets") }
        val consumer = client.simpleConsumer("keepers") { subscribe("secrets") }

        producer.send(Message("secrets", "hello"))
        println("sent         hello")
        for (delivery in consumer.receive()) {
            println("received     ${delivery.body.decodeToString()}")
            consumer.ack(delivery)
        }
    }
}
