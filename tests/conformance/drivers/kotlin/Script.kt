import java.util.concurrent.ConcurrentHashMap
import kotlinx.coroutines.CompletableDeferred
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonNull
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.jsonArray

/** What handlers and checkers do, by the handle of their consumer or producer. */
val scripts = ConcurrentHashMap<String, Script>()

/** What a handler or a checker does about a message, by the message's tag and by how often it has come. */
class Script(private val answers: JsonObject) {
    private val seen = ConcurrentHashMap<String, Int>()
    private val released = CompletableDeferred<Unit>()

    /** The answer that is due, or null if there is none; [released] is the one of what hangs. */
    suspend fun next(tag: String?, messageId: String, released: String): JsonElement {
        val list = (answers[tag] ?: answers["*"])?.jsonArray ?: return JsonNull
        val count = seen.merge(messageId, 1, Int::plus)!!
        val answer = list[minOf(count, list.size) - 1]
        if (answer != JsonPrimitive("hang")) return answer
        this.released.await()
        return JsonPrimitive(released)
    }

    /** From now on nothing hangs. */
    fun release() {
        released.complete(Unit)
    }
}
