// The Kotlin client under measurement: sends one call per message, 32 in flight; receives and acknowledges 32 at a time;
// handles messages with a push consumer.

import java.util.concurrent.atomic.AtomicInteger
import kotlin.system.exitProcess
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import rocketmq.thin.Client
import rocketmq.thin.ConsumeResult
import rocketmq.thin.Message
import rocketmq.thin.Producer
import rocketmq.thin.SimpleConsumer

private const val IN_FLIGHT = 32
// The JVM compiles what it finds to be hot; a long-running program is measured, not its first seconds.
private const val WARM_UP = 100_000
private val body = ByteArray(1024) { 'x'.code.toByte() }

private fun send(producer: Producer, count: Int) = runBlocking(Dispatchers.Default) {
    val left = AtomicInteger(count)
    repeat(IN_FLIGHT) {
        launch {
            while (left.getAndDecrement() > 0) {
                producer.send(Message("bench", body, tag = "t", keys = listOf("key")))
            }
        }
    }
}

private fun receive(consumer: SimpleConsumer, count: Int) = runBlocking(Dispatchers.Default) {
    var left = count
    while (left > 0) {
        val deliveries = consumer.receive()
        consumer.ackAll(deliveries)
        left -= deliveries.size
    }
}

private fun push(client: Client, count: Int) = runBlocking(Dispatchers.Default) {
    val left = AtomicInteger(count)
    val done = CompletableDeferred<Unit>()
    val consumer =
        client.pushConsumer("bench-kotlin-push") {
            subscribe("bench")
            concurrency = IN_FLIGHT
            handler {
                if (left.decrementAndGet() == 0) done.complete(Unit)
                ConsumeResult.Ack
            }
        }
    done.await()
    consumer.close()
}

/** That many clients with a receive each, until standard input ends. */
private fun idle(endpoints: String, count: Int): Nothing = runBlocking(Dispatchers.Default) {
    repeat(count) {
        val consumer = Client.connect(endpoints).simpleConsumer("bench-idle-$it") { subscribe("bench-idle") }
        launch { while (true) consumer.receive() }
    }
    println("ready")
    readlnOrNull()
    exitProcess(0)
}

fun main(arguments: Array<String>) {
    if (arguments.size > 1) idle(arguments.last(), arguments[1].toInt())
    val client = runBlocking { Client.connect(arguments.last()) }
    val producer = runBlocking { client.producer { topics("bench") } }
    val consumer = runBlocking { client.simpleConsumer("bench-kotlin") { subscribe("bench") } }
    send(producer, WARM_UP)
    receive(consumer, WARM_UP / 2)
    push(client, WARM_UP / 2)
    println("ready")
    for (line in generateSequence(::readlnOrNull)) {
        val (workload, count) = line.split(' ')
        when (workload) {
            "send" -> send(producer, count.toInt())
            "receive" -> receive(consumer, count.toInt())
            else -> push(client, count.toInt())
        }
        println("done")
    }
}
