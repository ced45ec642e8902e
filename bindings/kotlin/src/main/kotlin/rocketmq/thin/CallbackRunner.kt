package rocketmq.thin

import java.lang.System.Logger.Level
import kotlin.time.toKotlinDuration
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.cancel
import kotlinx.coroutines.currentCoroutineContext
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.launch
import kotlinx.coroutines.supervisorScope
import kotlinx.coroutines.withTimeoutOrNull
import rocketmq.thin.internal.OrphanCheckRecord
import rocketmq.thin.internal.Outcome
import rocketmq.thin.internal.clientStatusChanges
import rocketmq.thin.internal.decideOrphan
import rocketmq.thin.internal.nextCredentialRequest
import rocketmq.thin.internal.nextOrphanCheck
import rocketmq.thin.internal.nextStatusChange
import rocketmq.thin.internal.producerOrphanChecks
import rocketmq.thin.internal.provideCredentials
import rocketmq.thin.internal.refuseCredentials

/**
 * Calls the application's checkers, credentials provider and logger in the background, on threads that may block. Their
 * exceptions are logged, and not thrown.
 */
internal class CallbackRunner(private val observers: Observers) {
    private val scope = CoroutineScope(SupervisorJob() + Dispatchers.IO)

    /** Runs [work] until it ends, or until the returned job or [scope] is cancelled. */
    private fun start(scope: CoroutineScope = this.scope, work: suspend CoroutineScope.() -> Unit): Job =
        scope.launch {
            try {
                supervisorScope(work)
            } catch (e: CancellationException) {
                throw e
            } catch (e: Throwable) {
                observers.log(Level.ERROR, "a background task of the client failed", e)
            }
        }

    /** Cancels running functions of the application. */
    fun cancel() = scope.cancel()

    /** Answers orphan checks with the results of [checker], until the producer is closed. */
    fun answerChecks(producer: Outcome.Registered, checker: suspend (OrphanCheck) -> Decision): Job {
        val checks = Operations.call<Outcome.Registered>(producer) { producerOrphanChecks(producer.key) }
        val pending = Operations.outcomes<Outcome.OrphanCheck>({ checks }, ::nextOrphanCheck)
        return start { pending.collect { launch { answer(it.check, checker) } } }
    }

    private suspend fun answer(check: OrphanCheckRecord, checker: suspend (OrphanCheck) -> Decision) {
        val about = "message ${check.messageId}; the server asks again"
        try {
            val decision = attempt("the checker failed on $about") {
                withTimeoutOrNull(check.timeout.toKotlinDuration()) { checker(OrphanCheck(check)) }
                    ?: Decision.Unknown.also { observers.log(Level.ERROR, "the checker took too long on $about") }
            }
            attempt("failed to send the decision about $about") {
                if (decision != null) {
                    Operations.await<Outcome.Done>(check) { decideOrphan(check.key, decision.native) }
                }
            }
        } finally {
            // Releases the check at once, because the producer limits how many are pending.
            check.destroy()
        }
    }

    /** Calls [provider] whenever the client needs credentials, until the client is closed, or has failed to connect. */
    fun answerRequests(requests: Outcome.Registered, provider: suspend () -> Credentials) {
        start {
            while (Operations.await<Outcome>(requests) { nextCredentialRequest(requests.key) } !is Outcome.End) {
                attempt("the credentials provider failed", { refuseCredentials(requests.key, it) }) {
                    val provided = provider().toNative()
                    Operations.call<Outcome.Done>(requests) { provideCredentials(requests.key, provided) }
                }
            }
        }
    }

    /** Logs each status change of a client, until the client is closed. Then closes [logs]. */
    fun logStatus(client: Outcome.Registered, logs: AutoCloseable) {
        val changes = Operations.call<Outcome.Registered>(client) { clientStatusChanges(client.key) }
        // The flow does not refer to the client, so that an unused client can be collected.
        val statuses = Operations.outcomes<Outcome.Health>({ changes }, ::nextStatusChange)
        // Not cancelled with `scope`, so that the last status is logged, too.
        start(CoroutineScope(Dispatchers.IO)) {
            logs.use {
                statuses.collect {
                    val (status, error) = Health(it.health)
                    val level = if (status == Status.Lost || status == Status.Degraded) Level.WARNING else Level.INFO
                    observers.log(level, "the client is ${status.name.lowercase()}", error)
                }
            }
        }
    }

    /**
     * Returns the result of [call]. If it throws, logs [failure], calls [failed] and returns null. A cancellation of
     * the caller is thrown.
     */
    private suspend fun <T> attempt(
        failure: String,
        failed: (reason: String) -> Unit = {},
        call: suspend () -> T,
    ): T? =
        try {
            call()
        } catch (e: Throwable) {
            currentCoroutineContext().ensureActive()
            observers.log(Level.ERROR, failure, e)
            failed(textOf(e))
            null
        }

    /** The text of an exception, which can be encoded. An exception of the application may have none. */
    private fun textOf(e: Throwable): String {
        val text = runCatching { e.message ?: e.toString() }.getOrNull() ?: e.javaClass.name
        return text.encodeToByteArray().decodeToString()
    }
}
