import kotlin.time.toJavaDuration
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.future.await
import kotlinx.coroutines.launch
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonNull
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.add
import kotlinx.serialization.json.buildJsonObject
import kotlinx.serialization.json.double
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import kotlinx.serialization.json.put
import kotlinx.serialization.json.putJsonArray
import rocketmq.thin.Client
import rocketmq.thin.ConsumeResult
import rocketmq.thin.Consumer
import rocketmq.thin.Delivery
import rocketmq.thin.Filter
import rocketmq.thin.Messages
import rocketmq.thin.PushConsumer
import rocketmq.thin.SimpleConsumer

val CONSUMER_FEATURES = listOf("subscribe", "settle", "keep_lease", "stream", "push_consumer", "lite", "drop")

/** Performs an operation of consumers; null if [op] is none of these. */
suspend fun performOnConsumer(op: String, request: JsonObject): JsonElement? {
    when (op) {
        "consumer" -> return handle(simpleConsumer(request))
        "push_consumer" -> return buildJsonObject { put("handle", pushConsumer(request)) }
        "receive" -> return receive(request)
        "stream" -> return handle(stream(request))
        "next" -> return next(request)
        "lite_topics" -> {
            val topics = request.handle<Consumer>("consumer").liteTopics()
            return buildJsonObject { putJsonArray("lite_topics") { topics.forEach { add(it) } } }
        }
        "ack_all" -> {
            val deliveries = request.texts("deliveries").map { handles.getValue(it) as Delivery }
            val results = request.handle<SimpleConsumer>("consumer").ackAll(deliveries)
            return results(results) { buildJsonObject {} }
        }
        "pause" -> request.handle<PushConsumer>("consumer").pause()
        "resume" -> request.handle<PushConsumer>("consumer").resume()
        "subscribe_lite" ->
            request.handle<Consumer>("consumer").subscribeLite(request.text("lite_topic")!!, offsetOption(request["from"]))
        "unsubscribe_lite" -> request.handle<Consumer>("consumer").unsubscribeLite(request.text("lite_topic")!!)
        "subscribe" -> request.handle<Consumer>("consumer").subscribe(request.text("topic")!!, filter(request))
        "unsubscribe" -> request.handle<Consumer>("consumer").unsubscribe(request.text("topic")!!)
        "ack", "nack", "dead_letter", "change_invisible", "keep_lease" -> settle(op, request)
        "drop" -> {
            handles.remove(request.text("handle"))
            // What is not referred to is closed when it is collected.
            System.gc()
        }
        else -> return null
    }
    return buildJsonObject {}
}

private suspend fun settle(op: String, request: JsonObject) {
    val consumer = request.handle<SimpleConsumer>("consumer")
    val delivery = request.handle<Delivery>("delivery")
    when (op) {
        "ack" -> consumer.ack(delivery)
        "nack" -> consumer.nack(delivery, request.duration("after_ms")!!)
        "dead_letter" -> consumer.deadLetter(delivery)
        "change_invisible" -> consumer.changeInvisible(delivery, request.duration("invisible_ms")!!)
        "keep_lease" -> consumer.keepLease(delivery, request.duration("max_ms")!!)
    }
}

private fun filter(given: JsonObject): Filter {
    val sql = given.text("sql")
    return when {
        sql != null -> Filter.sql(sql)
        given["tags"].present() != null -> Filter.tags(*given.texts("tags").toTypedArray())
        else -> Filter.ALL
    }
}

private fun subscriptions(request: JsonObject): List<Pair<String, Filter>> =
    request.list("subscriptions").map { it.jsonObject }.map { it.text("topic")!! to filter(it) }

private suspend fun simpleConsumer(request: JsonObject): SimpleConsumer =
    request.handle<Client>("client").simpleConsumer(request.text("group")!!) {
        for ((topic, filter) in subscriptions(request)) subscribe(topic, filter)
        request.text("lite")?.let { lite(it) }
    }

private suspend fun pushConsumer(request: JsonObject): String {
    val name = newHandle()
    val script = Script(request["handler"].present()?.jsonObject ?: JsonObject(emptyMap()))
    scripts[name] = script
    val consumer =
        request.handle<Client>("client").pushConsumer(request.text("group")!!) {
            for ((topic, filter) in subscriptions(request)) subscribe(topic, filter)
            request.text("lite")?.let { lite(it) }
            concurrency = request.long("concurrency")?.toInt()
            maxCachedMessages = request.long("max_cached_messages")?.toInt()
            maxCachedBytes = request.long("max_cached_bytes")
            invisibleDuration = request.duration("invisible_ms")
            maxRate = request["max_rate"].present()?.jsonPrimitive?.double
            handler { handled(name, script, it) }
        }
    handles[name] = consumer
    if (request.text("lite") != null) {
        // It starts at once, so that no revocation is missed.
        scope.launch(start = CoroutineStart.UNDISPATCHED) {
            consumer.liteRevocations().collect { topic ->
                report("revoked", name) { put("lite_topic", topic) }
            }
        }
    }
    return name
}

private suspend fun handled(consumer: String, script: Script, delivery: Delivery): ConsumeResult {
    report("start", consumer) {
        put("body", base64(delivery.body))
        put("message_id", delivery.messageId)
        put("attempt", delivery.attempt)
        put("message_group", delivery.messageGroup)
    }
    val scripted = script.next(delivery.tag, delivery.messageId, released = "ack")
    val answer = if (scripted is JsonNull) JsonPrimitive("ack") else scripted
    report("end", consumer) {
        put("body", base64(delivery.body))
        put("message_id", delivery.messageId)
        put("answer", answer)
    }
    return when (answer) {
        is JsonObject -> ConsumeResult.RetryAfter(answer.duration("retry_after_ms")!!)
        else ->
            when (answer.jsonPrimitive.content) {
                "ack" -> ConsumeResult.Ack
                "dead_letter" -> ConsumeResult.DeadLetter
                "throw" -> error("as scripted")
                else -> ConsumeResult.Retry
            }
    }
}

private suspend fun receive(request: JsonObject): JsonElement {
    val deliveries =
        request
            .handle<SimpleConsumer>("consumer")
            .receive(
                request.long("max_messages")?.toInt(),
                request.duration("invisible_ms"),
                request.duration("await_ms"),
            )
    return buildJsonObject {
        putJsonArray("messages") { deliveries.forEach { add(received(it)) } }
    }
}

private fun stream(request: JsonObject): Messages =
    request
        .handle<SimpleConsumer>("consumer")
        .messagesAsync(
            request.long("max_messages")?.toInt(),
            request.long("max_bytes"),
            request.duration("invisible_ms")?.toJavaDuration(),
        )

private suspend fun next(request: JsonObject): JsonElement {
    val delivery = request.handle<Messages>("stream").nextAsync().await()
    return buildJsonObject { put("message", delivery?.let(::received) ?: JsonNull) }
}
