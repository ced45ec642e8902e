import java.util.Base64
import java.util.concurrent.ConcurrentHashMap
import java.util.concurrent.atomic.AtomicLong
import kotlin.system.exitProcess
import kotlin.time.Duration.Companion.milliseconds
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job
import kotlinx.coroutines.launch
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonArray
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonNull
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonObjectBuilder
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.add
import kotlinx.serialization.json.addJsonObject
import kotlinx.serialization.json.buildJsonObject
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import kotlinx.serialization.json.long
import kotlinx.serialization.json.put
import kotlinx.serialization.json.putJsonArray
import kotlinx.serialization.json.putJsonObject
import rocketmq.thin.Client
import rocketmq.thin.CloseReport
import rocketmq.thin.Credentials
import rocketmq.thin.Delivery
import rocketmq.thin.Filter
import rocketmq.thin.Message
import rocketmq.thin.Producer
import rocketmq.thin.Receipt
import rocketmq.thin.RocketMQException
import rocketmq.thin.SimpleConsumer
import rocketmq.thin.Tls

/** The conformance driver of Kotlin: one JSON request per line on stdin, one reply per line on stdout. */
fun main() {
    val running = ConcurrentHashMap<Long, Job>()
    val scope = CoroutineScope(Dispatchers.Default)
    for (line in generateSequence(::readlnOrNull)) {
        val request = Json.parseToJsonElement(line).jsonObject
        val id = request.long("id")!!
        when (request.text("op")) {
            "exit" -> break
            "cancel" -> {
                running[request.long("request")]?.cancel()
                reply(id) { putJsonObject("ok") {} }
            }
            else -> {
                val job = scope.launch { answer(id, request) }
                running[id] = job
                job.invokeOnCompletion { running.remove(id) }
            }
        }
    }
    exitProcess(0)
}

private suspend fun answer(id: Long, request: JsonObject) {
    try {
        val ok = perform(request)
        reply(id) { put("ok", ok) }
    } catch (e: Throwable) {
        reply(id) { put("error", error(e)) }
    }
}

private fun reply(id: Long, fields: JsonObjectBuilder.() -> Unit) {
    val line = buildJsonObject {
        put("id", id)
        fields()
    }
    println(line)
}

private val handles = ConcurrentHashMap<String, Any>()
private val lastHandle = AtomicLong()

private fun keep(value: Any): String = "h${lastHandle.incrementAndGet()}".also { handles[it] = value }

private inline fun <reified T> JsonObject.handle(name: String): T = handles.getValue(text(name)!!) as T

private fun handle(made: Any) = buildJsonObject { put("handle", keep(made)) }

private suspend fun perform(request: JsonObject): JsonElement =
    when (val op = request.text("op")) {
        "connect" -> handle(connect(request.getValue("options").jsonObject))
        "producer" -> handle(request.handle<Client>("client").producer { topics = request.texts("topics") })
        "consumer" -> handle(consumer(request))
        "send" -> receipt(request.handle<Producer>("producer").send(message(request.getValue("message").jsonObject)))
        "send_all" -> {
            val messages = request.list("messages").map { message(it.jsonObject) }
            results(request.handle<Producer>("producer").sendAll(messages), ::receipt)
        }
        "receive" -> receive(request)
        "ack" -> {
            request.handle<SimpleConsumer>("consumer").ack(request.handle("delivery"))
            buildJsonObject {}
        }
        "ack_all" -> {
            val deliveries = request.texts("deliveries").map { handles.getValue(it) as Delivery }
            results(request.handle<SimpleConsumer>("consumer").ackAll(deliveries)) { buildJsonObject {} }
        }
        "change_invisible" -> {
            val invisible = request.long("invisible_ms")!!.milliseconds
            request.handle<SimpleConsumer>("consumer").changeInvisible(request.handle("delivery"), invisible)
            buildJsonObject {}
        }
        "close" -> close(request)
        else -> error("unknown op $op")
    }

private suspend fun connect(options: JsonObject): Client =
    Client.connect(options.text("endpoints")!!) {
        options.text("namespace")?.let { namespace = it }
        options["credentials"].present()?.jsonObject?.let {
            credentials = Credentials(it.text("access_key")!!, it.text("secret_key")!!, it.text("session_token"))
        }
        when (val given = options["tls"].present()) {
            is JsonObject -> tls = Tls.ca(given.text("ca")!!.encodeToByteArray())
            is JsonPrimitive -> tls = Tls.SYSTEM_ROOTS
            else -> {}
        }
        options.long("request_timeout_ms")?.let { requestTimeout = it.milliseconds }
        options.long("operation_timeout_ms")?.let { operationTimeout = it.milliseconds }
        options.long("startup_timeout_ms")?.let { startupTimeout = it.milliseconds }
    }

private suspend fun consumer(request: JsonObject): SimpleConsumer =
    request.handle<Client>("client").simpleConsumer(request.text("group")!!) {
        for (given in request.list("subscriptions").map { it.jsonObject }) {
            val topic = given.text("topic")!!
            val sql = given.text("sql")
            when {
                sql != null -> subscribe(topic, Filter.sql(sql))
                given["tags"].present() != null -> subscribe(topic, Filter.tags(*given.texts("tags").toTypedArray()))
                else -> subscribe(topic)
            }
        }
    }

private fun message(given: JsonObject) =
    Message(
        topic = given.text("topic") ?: "",
        body = Base64.getDecoder().decode(given.text("body") ?: ""),
        tag = given.text("tag"),
        keys = given.texts("keys"),
        properties = given["properties"].present()?.jsonObject.orEmpty().mapValues { it.value.jsonPrimitive.content },
    )

private suspend fun receive(request: JsonObject): JsonElement {
    val deliveries =
        request
            .handle<SimpleConsumer>("consumer")
            .receive(
                request.long("max_messages")?.toInt(),
                request.long("invisible_ms")?.milliseconds,
                request.long("await_ms")?.milliseconds,
            )
    return buildJsonObject {
        putJsonArray("messages") { deliveries.forEach { add(received(it)) } }
    }
}

private fun received(delivery: Delivery) = buildJsonObject {
    put("delivery", keep(delivery))
    put("message_id", delivery.messageId)
    put("topic", delivery.topic)
    put("body", Base64.getEncoder().encodeToString(delivery.body))
    put("tag", delivery.tag)
    putJsonArray("keys") { delivery.keys.forEach { add(it) } }
    putJsonObject("properties") { delivery.properties.forEach { (name, value) -> put(name, value) } }
    put("attempt", delivery.attempt)
    put("corrupted", delivery.corrupted)
}

private suspend fun close(request: JsonObject): JsonElement {
    val deadline = request.long("deadline_ms")?.milliseconds
    val report: CloseReport =
        when (val closing = request.handle<Any>("handle")) {
            is Client -> closing.close(deadline)
            is Producer -> closing.close(deadline)
            is SimpleConsumer -> closing.close(deadline)
            else -> error("$closing cannot be closed")
        }
    return buildJsonObject {
        putJsonObject("report") {
            put("flushed", report.flushed)
            put("abandoned", report.abandoned)
            put("elapsed_ms", report.elapsed.inWholeMilliseconds)
        }
    }
}

private fun receipt(receipt: Receipt) = buildJsonObject {
    put("message_id", receipt.messageId)
    put("topic", receipt.topic)
    put("queue_offset", receipt.queueOffset)
    put("transaction_id", receipt.transactionId)
}

private fun <T> results(results: List<Result<T>>, shown: (T) -> JsonObject) = buildJsonObject {
    putJsonArray("results") {
        for (result in results) {
            addJsonObject { result.fold({ put("ok", shown(it)) }, { put("error", error(it)) }) }
        }
    }
}

private fun error(e: Throwable) = buildJsonObject {
    when (e) {
        is RocketMQException -> {
            put("kind", e.kind.name)
            put("code", e.code)
            put("retryable", e.retryable)
            put("maybe_delivered", e.maybeDelivered)
            put("operation", e.operation)
            put("message", e.message)
            put("shown", e.toString())
        }
        is CancellationException -> put("kind", "Cancelled")
        else -> {
            put("kind", "Foreign")
            put("message", e.stackTraceToString())
        }
    }
}

private fun JsonElement?.present(): JsonElement? = takeUnless { it == null || it is JsonNull }

private fun JsonObject.text(name: String): String? = get(name).present()?.jsonPrimitive?.content

private fun JsonObject.long(name: String): Long? = get(name).present()?.jsonPrimitive?.long

private fun JsonObject.list(name: String): JsonArray = get(name).present()?.jsonArray ?: JsonArray(emptyList())

private fun JsonObject.texts(name: String): List<String> = list(name).map { it.jsonPrimitive.content }
