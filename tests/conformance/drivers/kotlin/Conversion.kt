import java.time.Instant
import java.util.Base64
import kotlin.time.Duration
import kotlin.time.Duration.Companion.milliseconds
import kotlinx.coroutines.CancellationException
import kotlinx.serialization.json.JsonArray
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonNull
import kotlinx.serialization.json.JsonObject
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
import rocketmq.thin.Delivery
import rocketmq.thin.Message
import rocketmq.thin.OffsetOption
import rocketmq.thin.Receipt
import rocketmq.thin.RocketMQException

/** The position in the field `from` of a request. */
fun offsetOption(from: JsonElement?): OffsetOption? =
    when (val given = from.present()) {
        null -> null
        is JsonObject -> {
            val (kind, value) = given.entries.single()
            val number = value.jsonPrimitive.long
            when (kind) {
                "offset" -> OffsetOption.offset(number)
                "tail" -> OffsetOption.tail(number)
                else -> OffsetOption.timestamp(Instant.ofEpochMilli(number))
            }
        }
        else ->
            when (given.jsonPrimitive.content) {
                "last" -> OffsetOption.LAST
                "min" -> OffsetOption.MIN
                else -> OffsetOption.MAX
            }
    }

fun message(given: JsonObject): Message {
    val properties = given["properties"].present()?.jsonObject.orEmpty()
    var message =
        Message(
            topic = given.text("topic") ?: "",
            body = Base64.getDecoder().decode(given.text("body") ?: ""),
            tag = given.text("tag"),
            keys = given.texts("keys"),
            properties = properties.mapValues { it.value.jsonPrimitive.content },
        )
    given.text("message_group")?.let { message = message.messageGroup(it) }
    given.long("deliver_at_ms")?.let { message = message.deliverAt(Instant.ofEpochMilli(it)) }
    given.duration("delay_ms")?.let { message = message.delay(it) }
    given.long("priority")?.let { message = message.priority(it.toInt()) }
    given.text("lite_topic")?.let { message = message.liteTopic(it) }
    return message
}

fun receipt(receipt: Receipt) = buildJsonObject {
    put("message_id", receipt.messageId)
    put("topic", receipt.topic)
    put("queue_offset", receipt.queueOffset)
    put("transaction_id", receipt.transactionId)
    put("recall_handle", receipt.recallHandle)
}

fun received(delivery: Delivery) = buildJsonObject {
    put("delivery", keep(delivery))
    put("message_id", delivery.messageId)
    put("topic", delivery.topic)
    put("body", base64(delivery.body))
    put("tag", delivery.tag)
    putJsonArray("keys") { delivery.keys.forEach { add(it) } }
    putJsonObject("properties") { delivery.properties.forEach { (name, value) -> put(name, value) } }
    put("attempt", delivery.attempt)
    put("corrupted", delivery.corrupted)
    put("message_group", delivery.messageGroup)
    put("deliver_at_ms", delivery.deliverAt?.toEpochMilli())
    put("priority", delivery.priority)
    put("lite_topic", delivery.liteTopic)
    put("dead_letter_origin", delivery.deadLetterOrigin?.let {
        buildJsonObject {
            put("topic", it.topic)
            put("message_id", it.messageId)
        }
    } ?: JsonNull)
    put("trace_parent", delivery.traceParent)
}

fun base64(body: ByteArray): String = Base64.getEncoder().encodeToString(body)

fun <T> results(results: List<Result<T>>, shown: (T) -> JsonObject) = buildJsonObject {
    putJsonArray("results") {
        for (result in results) {
            addJsonObject { result.fold({ put("ok", shown(it)) }, { put("error", error(it)) }) }
        }
    }
}

fun error(e: Throwable) = buildJsonObject {
    when (e) {
        is RocketMQException -> {
            put("kind", e.kind.name)
            put("code", e.code)
            put("retryable", e.retryable)
            put("maybe_delivered", e.maybeDelivered)
            put("operation", e.operation)
            put("message", e.message)
            putJsonArray("causes") { generateSequence(e.cause) { it.cause }.forEach { add(it.message) } }
            put("shown", e.toString())
        }
        is CancellationException -> put("kind", "Cancelled")
        else -> {
            put("kind", "Foreign")
            put("message", e.stackTraceToString())
        }
    }
}

fun JsonElement?.present(): JsonElement? = takeUnless { it == null || it is JsonNull }

fun JsonObject.text(name: String): String? = get(name).present()?.jsonPrimitive?.content

fun JsonObject.long(name: String): Long? = get(name).present()?.jsonPrimitive?.long

fun JsonObject.duration(name: String): Duration? = long(name)?.milliseconds

fun JsonObject.list(name: String): JsonArray = get(name).present()?.jsonArray ?: JsonArray(emptyList())

fun JsonObject.texts(name: String): List<String> = list(name).map { it.jsonPrimitive.content }
