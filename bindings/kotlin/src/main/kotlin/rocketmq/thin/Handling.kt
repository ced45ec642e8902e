package rocketmq.thin

import java.lang.System.Logger.Level
import java.util.concurrent.ConcurrentLinkedQueue
import java.util.concurrent.atomic.AtomicBoolean
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.cancel
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.currentCoroutineContext
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.isActive
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext
import rocketmq.thin.NativeFunctions.rocketmq_thin_complete
import rocketmq.thin.NativeFunctions.rocketmq_thin_next_tasks
import rocketmq.thin.internal.Outcome
import rocketmq.thin.internal.sharePushConsumer

/**
 * Calls the handler of a push consumer for each message. It does not refer to the [PushConsumer], so that one that nobody
 * uses is collected, which closes it.
 *
 * ```
 * fetch --> waiting --> worker, worker, ...
 *   ^                      |
 *   `------ allTaken ------'
 * ```
 *
 * One coroutine fetches messages, others handle them. A worker goes on while messages wait, and starts a further one as
 * long as there are more. So handlers that never suspend cost no coroutine for each message, and the others run side by
 * side: the library hands out as many messages as may be handled at the same time.
 */
internal class Handling(
    consumer: Outcome.Made,
    private val group: String,
    private val handler: Handler,
    private val observers: Observers,
) {
    private val made = Operations.answer<Outcome.Made>(consumer) { sharePushConsumer(consumer.key) }
    private val scope = CoroutineScope(SupervisorJob() + handler.dispatcher)
    private val waiting = ConcurrentLinkedQueue<Task>()

    /** Whether a worker was started that has not begun. */
    private val workerDue = AtomicBoolean()

    /** Holds a value once no message waits. Until then, no more are needed. */
    private val allTaken = Channel<Unit>(Channel.CONFLATED)

    init {
        scope.launch(Dispatchers.Default) { fetch() }
    }

    /** Cancels what runs. Its messages, and those that wait, are delivered again. */
    fun cancel() {
        scope.cancel()
        while (true) (waiting.poll() ?: break).complete(ConsumeResult.Retry)
    }

    /** Goes on after a lack of memory: what was fetched and not handled is delivered again. */
    private suspend fun fetch() {
        while (true) {
            try {
                if (!fetchBatch()) return
            } catch (e: VirtualMachineError) {
                try {
                    observers.log(Level.ERROR, "messages could not be handed out", e)
                    startWorker()
                } catch (_: VirtualMachineError) {
                    // There is not even enough for that. The next batch starts a worker.
                }
            }
        }
    }

    /** Returns false once the consumer is closed. */
    private suspend fun fetchBatch(): Boolean {
        var batch = 0L
        val received = observers.receiving(group) {
            val next = Operations.await<Outcome>(this) { rocketmq_thin_next_tasks(made.key, MAX_TASKS) }
            if (next is Outcome.Tasks) {
                batch = next.key
                next.messages.map { Delivery(it, next.hold) }
            } else emptyList()
        }
        if (received.isEmpty()) return false
        received.forEachIndexed { index, delivery -> waiting += Task(batch, index, delivery) }
        startWorker()
        allTaken.receive()
        return true
    }

    private fun startWorker() {
        if (!workerDue.compareAndSet(false, true)) return
        try {
            scope.launch { work() }
        } catch (e: Throwable) {
            workerDue.set(false)
            throw e
        }
    }

    private suspend fun work() {
        workerDue.set(false)
        while (true) {
            val task = waiting.poll() ?: return
            try {
                if (waiting.isEmpty()) tellThatAllAreTaken() else startWorker()
                task.complete(handle(task.delivery))
            } catch (e: Throwable) {
                // There was no memory or no thread to go on. This worker handles what waits.
                task.fail()
                currentCoroutineContext().ensureActive()
            }
        }
    }

    /** As soon as there is enough memory for that: nothing more is fetched before. */
    private fun tellThatAllAreTaken() {
        while (true) {
            try {
                allTaken.trySend(Unit)
                return
            } catch (_: OutOfMemoryError) {
                Thread.sleep(MEMORY_PAUSE_MILLIS)
            }
        }
    }

    private suspend fun handle(delivery: Delivery): ConsumeResult {
        val result =
            try {
                withContext(observers.traceOf(delivery)) { handler.handle(delivery) }
            } catch (e: Throwable) {
                // Otherwise a close has cancelled it.
                if (currentCoroutineContext().isActive) {
                    val failure = "a handler failed on message ${delivery.messageId}, which is delivered again"
                    observers.log(Level.ERROR, failure, e)
                }
                ConsumeResult.Retry
            }
        observers.handled(group, delivery, result.settlement)
        return result
    }

    /** A message to handle: its place in a batch of the library. */
    private class Task(private val batch: Long, private val index: Int, val delivery: Delivery) {
        fun complete(result: ConsumeResult) =
            keeping(delivery) {
                when (result) {
                    is ConsumeResult.Ack -> rocketmq_thin_complete(batch, index, 0, 0)
                    is ConsumeResult.Retry -> rocketmq_thin_complete(batch, index, 1, 0)
                    is ConsumeResult.RetryAfter ->
                        rocketmq_thin_complete(batch, index, 2, result.after.inWholeMilliseconds)
                    is ConsumeResult.DeadLetter -> rocketmq_thin_complete(batch, index, 3, 0)
                }
            }

        /** Has the message delivered again: at once, or without memory for that when its batch is collected. */
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
        /** How many messages are fetched at once. */
        const val MAX_TASKS = 64

        /** How long to wait for memory before the next attempt. */
        const val MEMORY_PAUSE_MILLIS = 20L
    }
}
