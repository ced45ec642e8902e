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
import kotlinx.coroutines.asCoroutineDispatcher
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.future.future
import kotlinx.coroutines.suspendCancellableCoroutine
import rocketmq.thin.internal.FfiConverterTypeOutcome
import rocketmq.thin.internal.Outcome
import rocketmq.thin.internal.start as startNative

/**
 * Operations in progress. Each is started with one call into the library, and one thread fetches the outcomes of all.
 * The thread ends when there is nothing to fetch, because a thread keeps its class loader in memory.
 */
internal object Operations {
    /** How long the thread waits for a further operation before it ends. */
    private const val LINGER_MILLIS = 1000L

    /** How often and how far apart an outcome is delivered if there is not enough memory. */
    private const val MEMORY_ATTEMPTS = 10
    private const val MEMORY_PAUSE_MILLIS = 20L

    /**
     * By operation id: the continuation that waits for the outcome, or the outcome if it came first. Whichever comes
     * second removes the entry.
     */
    private val rendezvous = ConcurrentHashMap<Long, Any>()

    /** Whether the thread runs. */
    @Volatile private var polling = false

    /** Runs what must not run on that thread. It is the JDK's, because a pool of our own would keep threads. */
    private val executor = CompletableFuture<Nothing>().defaultExecutor()

    /** Where futures are completed. */
    val dispatcher = executor.asCoroutineDispatcher()

    /** Starts the library, or throws the reason why it cannot start. */
    fun start() {
        NativeLoader.load()
        startNative()?.let { throw it.toException() }
    }

    /**
     * Starts an operation of [owner] and waits for its outcome. Cancelling the coroutine cancels the operation.
     * [lost] gets an outcome that arrived although the coroutine was cancelled.
     */
    suspend inline fun <reified T : Outcome> await(
        owner: Any,
        noinline lost: (Outcome) -> Unit = { it.destroy() },
        crossinline start: () -> Long,
    ): T {
        val outcome = suspendCancellableCoroutine { continuation ->
            val operation = start()
            // The library knows the owner by a key that is valid as long as the owner is reachable.
            Reference.reachabilityFence(owner)
            check(operation != 0L) { "the native library and these classes are of different versions" }
            register(operation, Waiting(continuation, lost))
        }
        if (outcome is Outcome.Failed) throw outcome.failure.toException()
        return outcome as T
    }

    /** Calls a function of the library that does not wait, on [owner]. */
    inline fun <reified T : Outcome> answer(owner: Any, call: () -> Outcome): T {
        val outcome = call()
        Reference.reachabilityFence(owner)
        if (outcome is Outcome.Failed) throw outcome.failure.toException()
        return outcome as T
    }

    /** Collects what operations on the object [open] return, one after the other, until one returns [Outcome.End]. */
    inline fun <reified T : Outcome> each(
        crossinline open: () -> Outcome.Made,
        crossinline next: (Long) -> Long,
    ): Flow<T> = flow {
        val opened = open()
        try {
            while (true) {
                val outcome = await<Outcome>(opened) { next(opened.key) }
                if (outcome is Outcome.End) break
                emit(outcome as T)
            }
        } finally {
            opened.destroy()
        }
    }

    fun register(operation: Long, waiting: Waiting) {
        // The operation has started: either a thread that is about to end sees it, or this sees that it ended.
        if (!polling) startPolling()
        val outcome = rendezvous.putIfAbsent(operation, waiting)
        if (outcome != null) {
            rendezvous.remove(operation)
            waiting.resume(outcome)
        } else {
            waiting.continuation.invokeOnCancellation {
                val noOutcomeWillCome = NativeFunctions.rocketmq_thin_cancel(operation) == 1
                if (noOutcomeWillCome) rendezvous.remove(operation)
            }
        }
    }

    /** A coroutine that waits for an outcome. */
    class Waiting(val continuation: CancellableContinuation<Outcome>, private val lost: (Outcome) -> Unit) {
        /** [outcome] is an [Outcome], or what was thrown when it was decoded. */
        fun resume(outcome: Any) =
            if (outcome is Outcome) continuation.resume(outcome) { _, unused, _ -> lost(unused) }
            else continuation.resumeWithException(outcome as Throwable)
    }

    /** An outcome that got lost for a moment's lack of memory would leave its coroutine waiting for ever. */
    private fun deliver(operation: Long, outcome: Any) {
        repeat(MEMORY_ATTEMPTS) {
            try {
                return arrive(operation, outcome)
            } catch (_: OutOfMemoryError) {
                Thread.sleep(MEMORY_PAUSE_MILLIS)
            }
        }
        arrive(operation, outcome)
    }

    private fun arrive(operation: Long, outcome: Any) {
        val waiting = rendezvous.putIfAbsent(operation, outcome) as Waiting? ?: return
        when (waiting.continuation.context[ContinuationInterceptor]) {
            // The rest of the coroutine would run on this thread. If it blocked, no more outcomes would be fetched.
            null, Dispatchers.Unconfined -> executor.execute { waiting.resume(outcome) }
            else -> waiting.resume(outcome)
        }
        rendezvous.remove(operation)
    }

    @Synchronized
    private fun startPolling() {
        if (polling) return
        // Not the caller's class loader, which may be an application's that is to be unloaded.
        val loader = Operations::class.java.classLoader
        thread(isDaemon = true, name = "rocketmq-poll", contextClassLoader = loader, block = ::poll)
        polling = true
    }

    /** Whether the thread ends. */
    @Synchronized
    private fun stopPolling(): Boolean {
        polling = false
        // An operation may have started while the thread still seemed to run.
        if (NativeFunctions.rocketmq_thin_pending() > 0) polling = true
        return !polling
    }

    private fun poll() {
        while (true) {
            val batch = NativeFunctions.rocketmq_thin_poll(LINGER_MILLIS) ?: return
            val length = batch.getLong(0)
            if (length == 0L && stopPolling()) return
            val encoded = batch.getByteBuffer(Long.SIZE_BYTES.toLong(), length).order(ByteOrder.BIG_ENDIAN)
            while (encoded.hasRemaining()) {
                val operation = encoded.getLong()
                val end = encoded.getLong().toInt() + encoded.position()
                // A dispatcher of the application may throw. That must not affect other operations.
                runCatching { deliver(operation, decode(encoded)) }.onFailure {
                    rendezvous.remove(operation)
                    runCatching { report(it) }
                }
                encoded.position(end)
            }
        }
    }

    private fun report(e: Throwable) =
        with(Thread.currentThread()) { uncaughtExceptionHandler.uncaughtException(this, e) }

    /** If there is not enough memory for an outcome, its operation fails and the others continue. */
    private fun decode(encoded: ByteBuffer): Any =
        try {
            FfiConverterTypeOutcome.read(encoded)
        } catch (e: Throwable) {
            e
        }
}

/** Runs [block] for callers without coroutines. It starts on the caller's thread, so that calls keep their order. */
@OptIn(DelicateCoroutinesApi::class)
internal fun <T> future(block: suspend () -> T): CompletableFuture<T> =
    GlobalScope.future(Operations.dispatcher, CoroutineStart.UNDISPATCHED) { block() }

/** What [call] returns. The library knows [owner] by a key that is valid until then. */
internal inline fun <T> keeping(owner: Any, call: () -> T): T = call().also { Reference.reachabilityFence(owner) }

internal fun <T> Result<T>.toFuture(): CompletableFuture<T> =
    fold({ CompletableFuture.completedFuture(it) }, { CompletableFuture.failedFuture(it) })
