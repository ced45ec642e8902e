import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.add
import kotlinx.serialization.json.buildJsonObject
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.putJsonArray
import rocketmq.thin.Client
import rocketmq.thin.Delivery
import rocketmq.thin.Filter
import rocketmq.thin.SimpleConsumer

val CONSUMER_FEATURES = emptyList<String>()

/** Performs an operation of consumers; null if [op] is none of these. */
suspend fun performOnConsumer(op: String, request: JsonObject): JsonElement? =
    when (op) {
        "consumer" -> handle(consumer(request))
        "receive" -> receive(request)
        "ack" -> nothing { request.handle<SimpleConsumer>("consumer").ack(request.handle("delivery")) }
        "ack_all" -> {
            val deliveries = request.texts("deliveries").map { handles.getValue(it) as Delivery }
            results(request.handle<SimpleConsumer>("consumer").ackAll(deliveries)) { buildJsonObject {} }
        }
        "change_invisible" -> {
            val invisible = request.duration("invisible_ms")!!
            nothing {
                request.handle<SimpleConsumer>("consumer").changeInvisible(request.handle("delivery"), invisible)
            }
        }
        else -> null
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
