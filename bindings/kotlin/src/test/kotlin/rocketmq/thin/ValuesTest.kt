package rocketmq.thin

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Test
import rocketmq.thin.internal.ErrorKind as NativeKind
import rocketmq.thin.internal.Failure

/** Conversion of errors, and representations without secrets. */
class ValuesTest {
    @Test
    fun `each error kind has a subclass with its name`() {
        for (native in NativeKind.entries) {
            val exception = failure(native, emptyList()).toException()
            val name = native.name.split('_').joinToString("") { it.lowercase().replaceFirstChar(Char::uppercase) }
            assertEquals(name, exception.kind.name)
            assertEquals(name, exception.javaClass.simpleName)
        }
        assertEquals(NativeKind.entries.size, ErrorKind.entries.size)
    }

    @Test
    fun `an exception has the chain of causes`() {
        val exception = failure(NativeKind.TLS, listOf("outer", "inner")).toException()
        assertEquals(listOf("why", "outer", "inner"), generateSequence<Throwable>(exception) { it.cause }.map { it.message }.toList())
    }

    private fun failure(kind: NativeKind, causes: List<String>) =
        Failure(kind, null, retryable = true, maybeDelivered = false, "send", "why", "summary", null, null, causes)

    @Test
    fun `credentials do not show their secrets`() {
        val shown = Credentials("reader", "s3cret", "t0ken").toString()
        assertFalse("s3cret" in shown || "t0ken" in shown, shown)
    }
}
