import java.util.concurrent.ConcurrentHashMap
import java.util.concurrent.atomic.AtomicLong
import kotlin.system.exitProcess
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job
import kotlinx.coroutines.launch
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonObjectBuilder
import kotlinx.serialization.json.add
import kotlinx.serialization.json.buildJsonObject
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.put
import kotlinx.serialization.json.putJsonArray
import kotlinx.serialization.json.putJsonObject
import rocketmq.thin.Client
import rocketmq.thin.CloseReport
import rocketmq.thin.Messages
import rocketmq.thin.Producer
import rocketmq.thin.PushConsumer
import rocketmq.thin.SimpleConsumer

/** What runs beside the requests, such as the reports of events. */
val scope = CoroutineScope(Dispatchers.Default)

/** The conformance driver of Kotlin: one JSON request per line on stdin, one reply per line on stdout. */
fun main() {
    val running = ConcurrentHashMap<Long, Job>()
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

private fun reply(id: Long, fields: JsonObjectBuilder.() -> Unit) = write {
    put("id", id)
    fields()
}

/** Reports an event, of what [handle] names if there is one. */
fun report(event: String, handle: String?, fields: JsonObjectBuilder.() -> Unit) = write {
    put("event", event)
    handle?.let { put("handle", it) }
    fields()
}

private fun write(fields: JsonObjectBuilder.() -> Unit) = println(buildJsonObject(fields))

val handles = ConcurrentHashMap<String, Any>()
private val lastHandle = AtomicLong()

fun newHandle() = "h${lastHandle.incrementAndGet()}"

fun keep(value: Any): String = newHandle().also { handles[it] = value }

inline fun <reified T> JsonObject.handle(name: String): T = handles.getValue(text(name)!!) as T

fun handle(made: Any) = buildJsonObject { put("handle", keep(made)) }

private suspend fun perform(request: JsonObject): JsonElement {
    val op = request.text("op")!!
    return when (op) {
        "features" ->
            buildJsonObject {
                putJsonArray("features") { (CLIENT_FEATURES + CONSUMER_FEATURES).forEach { add(it) } }
            }
        "release" -> nothing { scripts.getValue(request.text("handle")!!).release() }
        "close" -> close(request)
        else -> performOnClient(op, request) ?: performOnConsumer(op, request) ?: error("unknown op $op")
    }
}

/** The reply of an operation without a value. */
inline fun nothing(call: () -> Unit): JsonObject {
    call()
    return buildJsonObject {}
}

private suspend fun close(request: JsonObject): JsonElement {
    val deadline = request.duration("deadline_ms")
    val report: CloseReport =
        when (val closing = request.handle<Any>("handle")) {
            is Client -> closing.close(deadline)
            is Producer -> closing.close(deadline)
            is SimpleConsumer -> closing.close(deadline)
            is PushConsumer -> closing.close(deadline)
            is Messages -> return nothing { closing.close() }
            else -> error("$closing cannot be closed")
        }
    return buildJsonObject {
        putJsonObject("report") {
            put("flushed", report.flushed)
            put("abandoned", report.abandoned)
            put("handled", report.handled)
            put("given_back", report.givenBack)
            put("elapsed_ms", report.elapsed.inWholeMilliseconds)
        }
    }
}
