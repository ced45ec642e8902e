import java.util.concurrent.atomic.AtomicInteger
import kotlinx.coroutines.launch
import kotlinx.serialization.json.JsonArray
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonObjectBuilder
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.buildJsonObject
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import kotlinx.serialization.json.put
import kotlinx.serialization.json.putJsonObject
import rocketmq.thin.Client
import rocketmq.thin.Credentials
import rocketmq.thin.Decision
import rocketmq.thin.Delivery
import rocketmq.thin.Health
import rocketmq.thin.Interceptor
import rocketmq.thin.Message
import rocketmq.thin.Metric
import rocketmq.thin.MetricValue
import rocketmq.thin.OrphanCheck
import rocketmq.thin.Producer
import rocketmq.thin.Receipt
import rocketmq.thin.Settlement
import rocketmq.thin.Startup
import rocketmq.thin.Tls
import rocketmq.thin.Transaction

val CLIENT_FEATURES =
    listOf(
        "message_types",
        "recall",
        "transactions",
        "health",
        "lazy",
        "tls_options",
        "credentials_provider",
        "compression",
        "metrics",
        "interceptors",
        "trace_context",
    )

/** Performs an operation of clients, producers or transactions; null if [op] is none of these. */
suspend fun performOnClient(op: String, request: JsonObject): JsonElement? =
    when (op) {
        "connect" -> handle(connect(request.getValue("options").jsonObject))
        "health" -> buildJsonObject { put(request.handle<Client>("client").health()) }
        "watch" -> nothing { watch(request.text("client")!!) }
        "metrics" -> metrics(request.handle<Client>("client").metrics().metrics)
        "producer" -> producer(request)
        "send" -> receipt(send(request))
        "send_all" -> {
            val messages = request.list("messages").map { message(it.jsonObject) }
            results(request.handle<Producer>("producer").sendAll(messages), ::receipt)
        }
        "recall" -> {
            val producer = request.handle<Producer>("producer")
            val receipt = Receipt("", request.text("topic")!!, -1, "", request.text("recall_handle"))
            val id = producer.recall(receipt)
            buildJsonObject { put("message_id", id) }
        }
        "begin" -> handle(request.handle<Producer>("producer").begin())
        "commit" -> nothing { request.handle<Transaction>("transaction").commit() }
        "rollback" -> nothing { request.handle<Transaction>("transaction").rollback() }
        else -> null
    }

private suspend fun connect(options: JsonObject): Client =
    Client.connect(options.text("endpoints")!!) {
        options.text("namespace")?.let { namespace = it }
        options["credentials"].present()?.jsonObject?.let { credentials = credentials(it) }
        options["credentials_provider"].present()?.let { credentialsProvider(provider(it as JsonArray)) }
        options["tls"].present()?.let { tls = tls(it) }
        options.text("interceptor")?.let {
            interceptor(Marking)
            interceptor(Reporting(throwing = it == "throw"))
        }
        options.text("startup")?.let { startup = Startup.valueOf(it.replaceFirstChar(Char::uppercase)) }
        options.duration("request_timeout_ms")?.let { requestTimeout = it }
        options.duration("operation_timeout_ms")?.let { operationTimeout = it }
        options.duration("startup_timeout_ms")?.let { startupTimeout = it }
    }

private fun credentials(given: JsonObject) =
    Credentials(given.text("access_key")!!, given.text("secret_key")!!, given.text("session_token"))

/** Each call gets the next answer; the last one repeats. */
private fun provider(provided: JsonArray): suspend () -> Credentials {
    val calls = AtomicInteger()
    return {
        val given = provided[minOf(calls.getAndIncrement(), provided.size - 1)]
        check(given is JsonObject) { "as scripted" }
        credentials(given)
    }
}

private fun tls(given: JsonElement): Tls {
    if (given !is JsonObject) return Tls.SYSTEM_ROOTS
    val bytes = { name: String -> given.text(name)?.encodeToByteArray() }
    var tls = bytes("ca")?.let(Tls::ca) ?: Tls.SYSTEM_ROOTS
    bytes("cert")?.let { tls = tls.clientCertificate(it, bytes("key")!!) }
    given.text("server_name")?.let { tls = tls.serverName(it) }
    if (given["skip_verification"] == JsonPrimitive(true)) tls = tls.dangerouslySkipVerification()
    return tls
}

/** Adds a property to each message. */
private object Marking : Interceptor {
    override fun beforeSend(message: Message) = message.property("intercepted", "yes")
}

/** Makes each of its calls an event, and throws after that if it is to. */
private class Reporting(private val throwing: Boolean) : Interceptor {
    private fun told(hook: String, topic: String?, ok: Boolean? = null) {
        report("intercepted", null) {
            put("hook", hook)
            put("topic", topic)
            put("ok", ok)
        }
        check(!throwing) { "as scripted" }
    }

    override fun beforeSend(message: Message) = message.also { told("before_send", it.topic) }

    override fun afterSend(message: Message, receipt: Receipt?, error: Throwable?) =
        told("after_send", message.topic, error == null)

    override fun beforeReceive(group: String) = told("before_receive", null)

    override fun afterReceive(group: String, deliveries: List<Delivery>?, error: Throwable?) =
        told("after_receive", null, error == null)

    override fun beforeSettle(group: String, delivery: Delivery, settlement: Settlement) =
        told("before_settle", delivery.topic)

    override fun afterSettle(group: String, delivery: Delivery, settlement: Settlement, error: Throwable?) =
        told("after_settle", delivery.topic, error == null)
}

private fun watch(handle: String) {
    val changes = (handles.getValue(handle) as Client).statusChanges()
    scope.launch { changes.collect { report("status", handle) { put(it) } } }
}

private fun JsonObjectBuilder.put(health: Health) {
    put("status", health.status.name)
    put("error", health.error?.toString())
}

private fun metrics(metrics: List<Metric>) = buildJsonObject {
    putJsonObject("metrics") {
        for (metric in metrics.filter { it.points.isNotEmpty() }) {
            val values = metric.points.map { it.value }
            val histograms = values.filterIsInstance<MetricValue.Histogram>()
            if (histograms.isNotEmpty()) {
                putJsonObject(metric.name) {
                    put("count", histograms.sumOf { it.count })
                    put("sum", histograms.sumOf { it.sum })
                }
            } else {
                put(metric.name, values.sumOf(::number))
            }
        }
    }
}

private fun number(value: MetricValue): Long =
    when (value) {
        is MetricValue.Counter -> value.count
        is MetricValue.Gauge -> value.value
        is MetricValue.Histogram -> value.count
    }

private suspend fun producer(request: JsonObject): JsonElement {
    val handle = newHandle()
    handles[handle] =
        request.handle<Client>("client").producer {
            topics = request.texts("topics")
            request.long("compress_above")?.let { compressAbove = it }
            request["checker"].present()?.jsonObject?.let { answers ->
                scripts[handle] = Script(answers)
                checker { check(handle, it) }
            }
        }
    return buildJsonObject { put("handle", handle) }
}

private suspend fun check(handle: String, check: OrphanCheck): Decision {
    report("asked", handle) {
        put("body", base64(check.message.body))
        put("message_id", check.messageId)
        put("transaction_id", check.transactionId)
    }
    return when (scripts.getValue(handle).next(check.message.tag, check.messageId, "commit").jsonPrimitive.content) {
        "commit" -> Decision.Commit
        "rollback" -> Decision.Rollback
        "throw" -> error("as scripted")
        else -> Decision.Unknown
    }
}

private suspend fun send(request: JsonObject) =
    message(request.getValue("message").jsonObject).let { message ->
        if (request["transaction"].present() != null) request.handle<Transaction>("transaction").send(message)
        else request.handle<Producer>("producer").send(message)
    }
