// The Kotlin client under measurement: one send call per message, 32 in flight.

import java.util.concurrent.atomic.AtomicInteger
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import rocketmq.thin.Client
import rocketmq.thin.Message
import rocketmq.thin.Producer

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

fun main(arguments: Array<String>) {
    val producer = runBlocking { Client.connect(arguments[0]).producer { topics("bench") } }
    send(producer, WARM_UP)
    println("ready")
    // Reading standard input keeps the process, and with it its CPU account, until the benchmark has read it.
    for (line in generateSequence(::readlnOrNull)) {
        send(producer, line.toInt())
        println("done")
    }
}
