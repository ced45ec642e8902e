package rocketmq.thin

import java.lang.System.Logger.Level
import java.util.concurrent.ConcurrentLinkedQueue
import java.util.concurrent.atomic.AtomicBoolean
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.cancel
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.currentCoroutineContext
import kotlinx.coroutines.delay
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.isActive
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext
import rocketmq.thin.NativeFunctions.rocketmq_thin_complete
import rocketmq.thin.NativeFunctions.rocketmq_thin_next_tasks
import rocketmq.thin.NativeFunctions.rocketmq_thin_settle
import rocketmq.thin.internal.Outcome
import rocketmq.thin.internal.closePushConsumer
import rocketmq.thin.internal.sharePushConsumer

/**
 * Calls the handler of a push consumer for each message. It does not refer to the [PushConsumer], so that an unused
 * consumer is collected, which closes it.
 *
 * ```
 * fetch --> waiting --> worker, worker, ...
 *   ^                      |
 *   `------ allTaken ------'
 * ```
 *
 * One coroutine fetches messages, and workers handle them. A worker handles messages while some wait, and starts
 * another worker if there are more. So handlers that never suspend do not need a coroutine for each message, and other
 * handlers run concurrently: the library hands out as many messages as may be handled at the same time.
 */
internal class HandlerRunner(
    consumer: Outcome.Registered,
    private val group: String,
    private val handler: Handler,
    private val observers: Observers,
) {
    private val registered = Operations.call<Outcome.Registered>(consumer) { sharePushConsumer(consumer.key) }
    private val scope = CoroutineScope(SupervisorJob() + handler.dispatcher)

    /** Where interceptors wait for settlements. Not cancelled, because a close waits for the settlements. */
    private val settling = CoroutineScope(SupervisorJob() + Dispatchers.Default)
    private val waiting = ConcurrentLinkedQueue<Task>()

    /** Whether a worker was launched, but does not run yet. */
    private val workerStarting = AtomicBoolean()

    /** Has a value once no message waits. Only then are further messages fetched. */
    private val allTaken = Channel<Unit>(Channel.CONFLATED)

    /** Whether a close has begun. */
    @Volatile private var stopping = false

    init {
        scope.launch(Dispatchers.Default) { fetch() }
    }

    /** Begins no more handlers, and puts back the messages that wait. */
    fun stopBeginning() {
        stopping = true
        putBackWaiting()
        signalAllTaken()
    }

    /** Cancels running handlers, whose messages are delivered again, and puts back the messages that wait. */
    fun cancel() {
        stopping = true
        scope.cancel()
        putBackWaiting()
    }

    private fun putBackWaiting() {
        // The last one first, because each of them becomes the next one.
        generateSequence { waiting.poll() }.toList().asReversed().forEach { it.putBack() }
    }

    /**
     * Fetches batches until the consumer is closed. Continues after a failure, such as an out-of-memory error: the batch
     * is delivered again. Otherwise the consumer would receive messages that nobody handles.
     */
    private suspend fun fetch() {
        var pause = SHORTEST_PAUSE_MILLIS
        while (!stopping) {
            try {
                if (!fetchBatch()) return
                pause = SHORTEST_PAUSE_MILLIS
            } catch (e: RocketMQException) {
                return closeAfter(e)
            } catch (e: Throwable) {
                currentCoroutineContext().ensureActive()
                try {
                    observers.log(Level.ERROR, "failed to hand out messages", e)
                    startWorker()
                } catch (_: Throwable) {
                    // There is no memory or no thread for a worker, either. The next batch starts a worker.
                }
                delay(pause)
                pause = minOf(2 * pause, LONGEST_PAUSE_MILLIS)
            }
        }
    }

    /** Closes the consumer, because the library hands out no more messages. */
    private suspend fun closeAfter(failure: RocketMQException) {
        observers.log(Level.ERROR, "the push consumer of group $group is closed, because it cannot get messages", failure)
        stopBeginning()
        Operations.await<Outcome>(this) { closePushConsumer(registered.key, null) }
    }

    /** Fetches one batch, and waits until no message waits. Returns false once the consumer is closed. */
    private suspend fun fetchBatch(): Boolean {
        var batch = 0L
        val received = observers.receiving(group) {
            val next =
                Operations.await<Outcome>(this, lost = ::putBack) {
                    rocketmq_thin_next_tasks(registered.key, MAX_TASKS)
                }
            if (next is Outcome.Tasks) {
                batch = next.key
                next.messages.map { Delivery(it, next.guard) }
            } else emptyList()
        }
        if (received.isEmpty()) return false
        received.forEachIndexed { index, delivery -> waiting += Task(batch, index, delivery) }
        // A close may have put back the messages that waited before.
        if (stopping) {
            putBackWaiting()
            return false
        }
        startWorker()
        allTaken.receive()
        return true
    }

    /** Puts back a batch that arrived after [fetch] was cancelled. */
    private fun putBack(lost: Outcome) {
        if (lost is Outcome.Tasks) {
            // The last one first, because each of them becomes the next one.
            for (index in lost.messages.indices.reversed()) rocketmq_thin_complete(lost.key, index, 4, 0)
        }
        lost.destroy()
    }

    private fun startWorker() {
        if (!workerStarting.compareAndSet(false, true)) return
        try {
            scope.launch { work() }
        } catch (e: Throwable) {
            workerStarting.set(false)
            throw e
        }
    }

    private suspend fun work() {
        workerStarting.set(false)
        while (true) {
            val task = waiting.poll() ?: return
            try {
                if (waiting.isEmpty()) signalAllTaken() else startWorker()
                val result = handle(task.delivery)
                if (result == null) task.putBack() else complete(task, result)
            } catch (e: Throwable) {
                // There is no memory, or no thread for another worker. This worker handles the messages that wait.
                task.fail()
                currentCoroutineContext().ensureActive()
            }
        }
    }

    /**
     * Allows [fetch] to continue. Retries while there is not enough memory, because otherwise nothing would be fetched.
     */
    private fun signalAllTaken() {
        while (true) {
            try {
                allTaken.trySend(Unit)
                return
            } catch (_: OutOfMemoryError) {
                Thread.sleep(MEMORY_RETRY_MILLIS)
            }
        }
    }

    /** Calls the handler. Returns null if a close came first. */
    private suspend fun handle(delivery: Delivery): ConsumeResult? {
        var begun = false
        return try {
            withContext(observers.traceOf(delivery)) {
                begun = !stopping
                if (begun) handler.handle(delivery) else null
            }
        } catch (e: Throwable) {
            // If it is not active, a close has cancelled the handler, or the worker before it called the handler.
            if (currentCoroutineContext().isActive) {
                val failure = "a handler failed on message ${delivery.messageId}, which is delivered again"
                observers.log(Level.ERROR, failure, e)
                begun = true
            }
            if (begun) ConsumeResult.Retry else null
        }
    }

    /** Completes a task, and calls interceptors before and after its message is settled. */
    private fun complete(task: Task, result: ConsumeResult) {
        if (!observers.intercepting) return task.complete(result)
        settling.launch(start = CoroutineStart.UNDISPATCHED) {
            try {
                observers.settling(group, task.delivery, result.settlement) { task.settle(result) }
            } catch (_: Throwable) {
                // The library has logged the failure. Without memory, the task may not be completed.
                task.fail()
            }
        }
    }

    /** A message for the handler, with its batch in the library and its index there. */
    private class Task(private val batch: Long, private val index: Int, val delivery: Delivery) {
        fun complete(result: ConsumeResult) =
            keepReachable(delivery) { rocketmq_thin_complete(batch, index, result.code, result.afterNanos) }

        /** Completes the task, and waits until the message is settled. */
        suspend fun settle(result: ConsumeResult) {
            Operations.await<Outcome.Done>(delivery) {
                rocketmq_thin_settle(batch, index, result.code, result.afterNanos)
            }
        }

        private val ConsumeResult.code
            get() =
                when (this) {
                    is ConsumeResult.Ack -> 0
                    is ConsumeResult.Retry -> 1
                    is ConsumeResult.RetryAfter -> 2
                    is ConsumeResult.DeadLetter -> 3
                }

        private val ConsumeResult.afterNanos
            get() = if (this is ConsumeResult.RetryAfter) after.inWholeNanoseconds else 0

        /** Returns the message to the consumer, because the handler has not seen it. */
        fun putBack() = keepReachable(delivery) { rocketmq_thin_complete(batch, index, 4, 0) }

        /** Lets the message be delivered again: at once, or, if there is no memory, when its batch is collected. */
        fun fail() =
            try {
                complete(ConsumeResult.Retry)
            } catch (_: VirtualMachineError) {}
    }

    private val ConsumeResult.settlement
        get() =
            when (this) {
                is ConsumeResult.Ack -> Settlement.Ack
                is ConsumeResult.Retry, is ConsumeResult.RetryAfter -> Settlement.Retry
                is ConsumeResult.DeadLetter -> Settlement.DeadLetter
            }

    private companion object {
        /** The maximum number of messages that are fetched at once. */
        const val MAX_TASKS = 64

        /** The delays between fetches that fail. Each is twice as long as the last one, up to a limit. */
        const val SHORTEST_PAUSE_MILLIS = 50L
        const val LONGEST_PAUSE_MILLIS = 1_000L

        /** The delay between attempts while there is not enough memory. */
        const val MEMORY_RETRY_MILLIS = 20L
    }
}
