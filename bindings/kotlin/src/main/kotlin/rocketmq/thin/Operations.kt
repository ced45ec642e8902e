package rocketmq.thin

import java.lang.ref.Reference
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.concurrent.CompletableFuture
import java.util.concurrent.ConcurrentHashMap
import kotlin.concurrent.thread
import kotlin.coroutines.ContinuationInterceptor
import kotlin.coroutines.resumeWithException
import kotlinx.coroutines.CancellableContinuation
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.DelicateCoroutinesApi
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.GlobalScope
import kotlinx.coroutines.future.future
import kotlinx.coroutines.suspendCancellableCoroutine
import rocketmq.thin.internal.FfiConverterTypeOutcome
import rocketmq.thin.internal.Outcome
import rocketmq.thin.internal.start as startNative

/** Operations under way: each starts with one call into the library, and one thread fetches all outcomes. */
internal object Operations {
    /**
     * By an operation's id: who waits for the outcome, or the outcome if it came first. The second to come
     * takes the entry away.
     */
    private val rendezvous = ConcurrentHashMap<Long, Any>()

    private val poller = lazy { thread(isDaemon = true, name = "rocketmq-poll", block = ::poll) }

    /** Starts the library; throws if it cannot run. */
    fun start() {
        startNative()?.let { throw it.toException() }
        poller.value
    }

    /** Starts an operation of [owner] and waits for its outcome. Cancelling the coroutine cancels it. */
    suspend inline fun <reified T : Outcome> await(owner: Any, crossinline start: () -> Long): T {
        val outcome = suspendCancellableCoroutine { continuation ->
            val operation = start()
            // Until here, or the library could lose what the owner's key stands for.
            Reference.reachabilityFence(owner)
            check(operation != 0L) { "the native library does not fit these classes" }
            register(operation, continuation)
        }
        if (outcome is Outcome.Failed) throw outcome.failure.toException()
        return outcome as T
    }

    fun register(operation: Long, continuation: CancellableContinuation<Outcome>) {
        val outcome = rendezvous.putIfAbsent(operation, continuation)
        if (outcome != null) {
            rendezvous.remove(operation)
            continuation.finish(outcome)
        } else {
            continuation.invokeOnCancellation {
                val noOutcomeWillCome = NativeFunctions.rocketmq_thin_cancel(operation) == 1
                if (noOutcomeWillCome) rendezvous.remove(operation)
            }
        }
    }

    /** [outcome] is an [Outcome], or what was thrown when it was decoded. */
    @Suppress("UNCHECKED_CAST")
    private fun arrive(operation: Long, outcome: Any) {
        val continuation = rendezvous.putIfAbsent(operation, outcome) as CancellableContinuation<Outcome>? ?: return
        rendezvous.remove(operation)
        when (continuation.context[ContinuationInterceptor]) {
            // The rest of the coroutine would run right here; if it blocks, nobody fetches outcomes any more.
            null, Dispatchers.Unconfined ->
                Dispatchers.Default.dispatch(continuation.context) { continuation.finish(outcome) }
            else -> continuation.finish(outcome)
        }
    }

    private fun CancellableContinuation<Outcome>.finish(outcome: Any) =
        if (outcome is Outcome) resume(outcome) { _, lost, _ -> lost.destroy() }
        else resumeWithException(outcome as Throwable)

    private fun poll() {
        while (true) {
            val batch = NativeFunctions.rocketmq_thin_poll() ?: return
            val length = batch.getLong(0)
            val encoded = batch.getByteBuffer(Long.SIZE_BYTES.toLong(), length).order(ByteOrder.BIG_ENDIAN)
            while (encoded.hasRemaining()) {
                val operation = encoded.getLong()
                val end = encoded.getLong().toInt() + encoded.position()
                // A dispatcher of the application's may throw; the other operations are not to blame.
                runCatching { arrive(operation, decode(encoded)) }.onFailure { report(it) }
                encoded.position(end)
            }
        }
    }

    private fun report(e: Throwable) =
        with(Thread.currentThread()) { uncaughtExceptionHandler.uncaughtException(this, e) }

    /** Memory may be short for a large outcome: then that operation fails, and the others go on. */
    private fun decode(encoded: ByteBuffer): Any =
        try {
            FfiConverterTypeOutcome.read(encoded)
        } catch (e: Throwable) {
            e
        }
}

/** Runs [block] for callers without coroutines. Its start is the caller's, so that calls keep their order. */
@OptIn(DelicateCoroutinesApi::class)
internal fun <T> future(block: suspend () -> T): CompletableFuture<T> =
    GlobalScope.future(Dispatchers.Default, CoroutineStart.UNDISPATCHED) { block() }

internal fun <T> Result<T>.toFuture(): CompletableFuture<T> =
    fold({ CompletableFuture.completedFuture(it) }, { CompletableFuture.failedFuture(it) })
