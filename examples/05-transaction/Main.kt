// Delivers a message only if a local change succeeded, even if the program does not decide about the transaction.
//
//     rocketmq-thin-proxy topic create payments --type transaction
//     java -cp ... MainKt HOST:PORT

import rocketmq.thin.Client
import rocketmq.thin.Decision
import rocketmq.thin.Message
import rocketmq.thin.OrphanCheck
import rocketmq.thin.SimpleConsumer

/** The server asks about transactions without a decision. A real program reads its database. */
fun check(orphan: OrphanCheck): Decision {
    println("asked        ${orphan.message.body.decodeToString()}")
    return Decision.Commit
}

suspend fun main(arguments: Array<String>) {
    val endpoint = arguments.firstOrNull() ?: "127.0.0.1:8081"
    Client.connect(endpoint).use { client ->
        val producer = client.producer {
            topics("payments")
            checker(::check)
        }
        val consumer = client.simpleConsumer("ledger") { subscribe("payments") }

        // The transaction is committed at the end of the block, and rolled back if the block throws.
        producer.transaction { send(Message("payments", "payment 1")) }
        println("committed    payment 1")

        producer.transaction {
            send(Message("payments", "payment 2"))
            rollback()
        }
        println("rolled back  payment 2")

        receiveOne(consumer)

        // The program forgets to decide about this transaction.
        producer.begin().send(Message("payments", "payment 3"))
        println("forgot       payment 3")

        receiveOne(consumer)
    }
}

/** Waits for one message and acknowledges it. */
suspend fun receiveOne(consumer: SimpleConsumer) {
    while (true) {
        val delivery = consumer.receive(maxMessages = 1).firstOrNull() ?: continue
        println("received     ${delivery.body.decodeToString()}")
        return consumer.ack(delivery)
    }
}
