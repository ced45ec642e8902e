package rocketmq.thin

import com.sun.jna.Pointer
import java.lang.ref.Reference
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.concurrent.CompletableFuture
import java.util.concurrent.ConcurrentHashMap
import kotlin.concurrent.thread
import kotlin.coroutines.ContinuationInterceptor
import kotlin.coroutines.resumeWithException
import kotlinx.coroutines.CancellableContinuation
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.DelicateCoroutinesApi
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.GlobalScope
import kotlinx.coroutines.asCoroutineDispatcher
import kotlinx.coroutines.async
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.launch
import kotlinx.coroutines.suspendCancellableCoroutine
import rocketmq.thin.internal.FfiConverterTypeOutcome
import rocketmq.thin.internal.Outcome
import rocketmq.thin.internal.start as startNative

/**
 * The operations in progress. Each is started with one call into the library, and one thread fetches the outcomes of
 * all operations. The thread ends when no operation is in progress, because a thread keeps its class loader in memory.
 */
internal object Operations {
    /** How long the thread waits for another operation before it ends, if none is in progress. */
    private const val IDLE_TIMEOUT_MILLIS = 1000L

    /**
     * How often the delivery of an outcome is retried if there is not enough memory, and the delay between attempts.
     */
    private const val MEMORY_RETRIES = 10
    private const val MEMORY_RETRY_MILLIS = 20L

    /**
     * By operation id: the coroutine that waits for the outcome, or the outcome if it arrived before the coroutine was
     * registered. The entry is removed when both are known.
     */
    private val rendezvous = ConcurrentHashMap<Long, Any>()

    /** Whether the polling thread is running. */
    @Volatile private var polling = false

    /**
     * Runs code that must not run on the polling thread. This is the JDK's shared executor, so that no threads stay
     * after the last operation.
     */
    private val executor = CompletableFuture<Nothing>().defaultExecutor()

    /** The dispatcher on which futures are completed. */
    val dispatcher = executor.asCoroutineDispatcher()

    /** Loads and starts the library. Throws if it cannot start. */
    fun start() {
        NativeLoader.load()
        startNative()?.let { throw it.toException() }
    }

    /**
     * Starts an operation of [owner] and waits for its outcome. Cancelling the coroutine cancels the operation.
     * [lost] is called with an outcome that arrives after the coroutine was cancelled.
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
            check(operation != 0L) { "the native library and the classes of rocketmq-thin have different versions" }
            register(operation, Waiter(continuation, lost))
        }
        if (outcome is Outcome.Failed) throw outcome.failure.toException()
        return outcome as T
    }

    /** Calls a function of the library that does not wait. It uses the key of [owner]. */
    inline fun <reified T : Outcome> call(owner: Any, function: () -> Outcome): T {
        val outcome = function()
        Reference.reachabilityFence(owner)
        if (outcome is Outcome.Failed) throw outcome.failure.toException()
        return outcome as T
    }

    /**
     * Returns a flow of the outcomes of [next] on the object that [open] returns, until the outcome is `Outcome.End`.
     */
    inline fun <reified T : Outcome> outcomes(
        crossinline open: () -> Outcome.Registered,
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

    fun register(operation: Long, waiter: Waiter) {
        val outcome = rendezvous.putIfAbsent(operation, waiter)
        if (outcome != null) {
            rendezvous.remove(operation)
            waiter.resume(outcome)
        } else {
            waiter.continuation.invokeOnCancellation {
                val noOutcomeWillCome = NativeFunctions.rocketmq_thin_cancel(operation) == 1
                if (noOutcomeWillCome) rendezvous.remove(operation)
            }
        }
        try {
            // A polling thread that is about to end sees the new operation and continues. If it has already ended,
            // `polling` is false.
            if (!polling) startPolling()
        } catch (e: Throwable) {
            // There is no thread to be had. If the outcome arrives all the same, it is treated as that of any
            // cancelled operation.
            waiter.continuation.cancel(e)
        }
    }

    /** A coroutine that waits for an outcome. */
    class Waiter(val continuation: CancellableContinuation<Outcome>, private val lost: (Outcome) -> Unit) {
        /** Resumes the coroutine. [outcome] is an `Outcome`, or the exception that was thrown when it was decoded. */
        fun resume(outcome: Any) =
            if (outcome is Outcome) continuation.resume(outcome) { _, unused, _ -> lost(unused) }
            else continuation.resumeWithException(outcome as Throwable)
    }

    /** Retries if there is not enough memory, because a lost outcome would leave its coroutine waiting for ever. */
    private fun deliverWithRetries(operation: Long, outcome: Any) {
        repeat(MEMORY_RETRIES) {
            try {
                return deliver(operation, outcome)
            } catch (_: OutOfMemoryError) {
                Thread.sleep(MEMORY_RETRY_MILLIS)
            }
        }
        deliver(operation, outcome)
    }

    private fun deliver(operation: Long, outcome: Any) {
        val waiter = rendezvous.putIfAbsent(operation, outcome) as Waiter? ?: return
        when (waiter.continuation.context[ContinuationInterceptor]) {
            // The coroutine would continue on this thread. If it blocked, no more outcomes would be fetched.
            null, Dispatchers.Unconfined -> executor.execute { waiter.resume(outcome) }
            else -> waiter.resume(outcome)
        }
        rendezvous.remove(operation)
    }

    @Synchronized
    private fun startPolling() {
        if (polling) return
        // Not the caller's context class loader, because its application may be unloaded later.
        val loader = Operations::class.java.classLoader
        thread(isDaemon = true, name = "rocketmq-poll", contextClassLoader = loader, block = ::poll)
        polling = true
    }

    /** Returns whether the thread must end. */
    @Synchronized
    private fun stopPolling(): Boolean {
        polling = false
        // An operation may have started while `polling` was still true.
        if (NativeFunctions.rocketmq_thin_pending() > 0) polling = true
        return !polling
    }

    private fun poll() {
        while (true) {
            val batch = NativeFunctions.rocketmq_thin_poll(IDLE_TIMEOUT_MILLIS)
            if (batch == 0L) return
            val encoded = withMemory { outcomes(batch) }
            if (!encoded.hasRemaining() && stopPolling()) return
            while (encoded.hasRemaining()) {
                val operation = encoded.getLong()
                val end = encoded.getLong().toInt() + encoded.position()
                // A dispatcher of the application may throw, which must not affect other operations.
                runCatching { deliverWithRetries(operation, decode(encoded)) }.onFailure {
                    rendezvous.remove(operation)
                    runCatching { reportUncaught(it) }
                }
                encoded.position(end)
            }
        }
    }

    /** The outcomes at the address [batch]: their length in bytes, and then each with its operation. */
    private fun outcomes(batch: Long): ByteBuffer {
        val pointer = Pointer(batch)
        return pointer.getByteBuffer(Long.SIZE_BYTES.toLong(), pointer.getLong(0)).order(ByteOrder.BIG_ENDIAN)
    }

    /** Repeats [call] until there is enough memory. Without the polling thread, no operation would ever end. */
    private inline fun <T> withMemory(call: () -> T): T {
        while (true) {
            try {
                return call()
            } catch (_: OutOfMemoryError) {
                Thread.sleep(MEMORY_RETRY_MILLIS)
            }
        }
    }

    private fun reportUncaught(e: Throwable) =
        with(Thread.currentThread()) { uncaughtExceptionHandler.uncaughtException(this, e) }

    /** Returns the outcome, or the exception if it cannot be decoded, for example for lack of memory. */
    private fun decode(encoded: ByteBuffer): Any =
        try {
            FfiConverterTypeOutcome.read(encoded)
        } catch (e: Throwable) {
            e
        }
}

/**
 * Runs [block] for callers without coroutines. It starts on the caller's thread, so that calls start in order.
 * Completing the future cancels [block]. [lost] is called if the result comes after that.
 */
@OptIn(DelicateCoroutinesApi::class)
internal fun <T> future(
    scope: CoroutineScope = GlobalScope,
    lost: () -> Unit = {},
    block: suspend () -> T,
): CompletableFuture<T> {
    val future = CompletableFuture<T>()
    val running =
        scope.launch(Operations.dispatcher, CoroutineStart.UNDISPATCHED) {
            val result = runCatching { block() }
            result.onSuccess { if (!future.complete(it)) lost() }
            result.onFailure { future.completeExceptionally(it) }
        }
    future.whenComplete { _, _ -> running.cancel() }
    return future
}

/** Runs [block] to its end, even if the caller is cancelled. */
@OptIn(DelicateCoroutinesApi::class)
internal suspend fun <T> uncancelled(block: suspend () -> T): T =
    GlobalScope.async(Operations.dispatcher, CoroutineStart.UNDISPATCHED) { block() }.await()

/**
 * Returns the result of [call]. Keeps [owner] reachable during the call, because its key in the library is valid only
 * while it is reachable.
 */
internal inline fun <T> keepReachable(owner: Any, call: () -> T): T = call().also { Reference.reachabilityFence(owner) }

internal fun <T> Result<T>.toFuture(): CompletableFuture<T> =
    fold({ CompletableFuture.completedFuture(it) }, { CompletableFuture.failedFuture(it) })
