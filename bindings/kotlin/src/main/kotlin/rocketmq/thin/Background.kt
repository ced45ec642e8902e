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
import rocketmq.thin.internal.Outcome
import rocketmq.thin.internal.Question
import rocketmq.thin.internal.clientStatusChanges
import rocketmq.thin.internal.decideOrphan
import rocketmq.thin.internal.nextCredentialRequest
import rocketmq.thin.internal.nextOrphanCheck
import rocketmq.thin.internal.nextStatusChange
import rocketmq.thin.internal.producerOrphanChecks
import rocketmq.thin.internal.provideCredentials
import rocketmq.thin.internal.refuseCredentials

/**
 * What a client does beside the application: it calls the application's checkers and its provider of credentials. What
 * these throw is logged and has no other effect. They run on threads that may block.
 */
internal class Background(private val observers: Observers) {
    private val scope = CoroutineScope(SupervisorJob() + Dispatchers.IO)

    /** Runs [work] until it ends, or until the returned job or [scope] is cancelled. */
    private fun start(scope: CoroutineScope = this.scope, work: suspend CoroutineScope.() -> Unit): Job =
        scope.launch {
            try {
                supervisorScope(work)
            } catch (e: CancellationException) {
                throw e
            } catch (e: Throwable) {
                observers.log(Level.ERROR, "the client failed in the background", e)
            }
        }

    /** Cancels the application's functions that still run. */
    fun cancel() = scope.cancel()

    /** Asks [checker] about orphaned transactions until the producer is closed. */
    fun answerChecks(producer: Outcome.Made, checker: suspend (OrphanCheck) -> Decision): Job {
        val checks = Operations.answer<Outcome.Made>(producer) { producerOrphanChecks(producer.key) }
        val asked = Operations.each<Outcome.OrphanCheck>({ checks }, ::nextOrphanCheck)
        return start { asked.collect { launch { answer(it.question, checker) } } }
    }

    private suspend fun answer(asked: Question, checker: suspend (OrphanCheck) -> Decision) {
        val about = "message ${asked.messageId}; the server asks again"
        try {
            val decision = attempt("the checker failed on $about") {
                withTimeoutOrNull(asked.timeout.toKotlinDuration()) { checker(OrphanCheck(asked)) }
                    ?: Decision.Unknown.also { observers.log(Level.ERROR, "the checker took too long on $about") }
            }
            attempt("the server was not told the decision about $about") {
                if (decision != null) {
                    Operations.await<Outcome.Done>(asked) { decideOrphan(asked.key, decision.native) }
                }
            }
        } finally {
            // Another check takes its place at once.
            asked.destroy()
        }
    }

    /** Calls [provider] whenever the client needs credentials, until it is closed, or could not connect. */
    fun answerRequests(requests: Outcome.Made, provider: suspend () -> Credentials) {
        start {
            while (Operations.await<Outcome>(requests) { nextCredentialRequest(requests.key) } !is Outcome.End) {
                attempt("the provider of credentials failed", { refuseCredentials(requests.key, it) }) {
                    val provided = provider().toNative()
                    Operations.answer<Outcome.Done>(requests) { provideCredentials(requests.key, provided) }
                }
            }
        }
    }

    /** Logs each change of a client's status, until the client is closed. Then [reports] end. */
    fun logStatus(client: Outcome.Made, reports: AutoCloseable) {
        val changes = Operations.answer<Outcome.Made>(client) { clientStatusChanges(client.key) }
        // Does not refer to the client, which may be dropped.
        val statuses = Operations.each<Outcome.Health>({ changes }, ::nextStatusChange)
        // It ends by itself, with the last status.
        start(CoroutineScope(Dispatchers.IO)) {
            reports.use {
                statuses.collect {
                    val (status, error) = Health(it.health)
                    val level = if (status == Status.Lost || status == Status.Degraded) Level.WARNING else Level.INFO
                    observers.log(level, "the client is ${status.name.lowercase()}", error)
                }
            }
        }
    }

    /** What [call] returns, or null if it throws. That it is cancelled itself is no failure of its own. */
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
            failed(e.message ?: e.toString())
            null
        }
}
