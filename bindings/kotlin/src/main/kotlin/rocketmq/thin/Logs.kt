package rocketmq.thin

import java.lang.System.Logger.Level
import java.util.IdentityHashMap
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.launch
import rocketmq.thin.internal.LogLevel
import rocketmq.thin.internal.Outcome
import rocketmq.thin.internal.closeLogs
import rocketmq.thin.internal.openLogs
import rocketmq.thin.internal.takeLogs
import rocketmq.thin.internal.waitForLogs

/**
 * Forwards log records of the clients to the application's loggers. The records are those of all clients, so a logger
 * gets them once, even if several clients use it.
 */
internal object Logs {
    /** The log records that a logger gets, and the number of clients that use the logger. */
    private class Subscription(val logs: Outcome.Registered, var clients: Int)

    private val subscriptions = IdentityHashMap<System.Logger, Subscription>()

    /** Forwards records to the logger of [observers], until all results of this function for the logger are closed. */
    @Synchronized
    fun forwardTo(observers: Observers): AutoCloseable {
        val logger = observers.logger ?: return AutoCloseable {}
        // The most verbose level that is logged.
        val level = LEVELS.entries.lastOrNull { logger.isLoggable(it.value) }?.key ?: return AutoCloseable {}
        val subscription = subscriptions.getOrPut(logger) { Subscription(forward(level, observers), 0) }
        subscription.clients++
        return AutoCloseable { unsubscribe(logger, subscription) }
    }

    @Synchronized
    private fun unsubscribe(logger: System.Logger, subscription: Subscription) {
        if (--subscription.clients > 0) return
        subscriptions.remove(logger)
        closeLogs(subscription.logs.key)
    }

    private fun forward(level: LogLevel, observers: Observers): Outcome.Registered {
        val logs = Operations.call<Outcome.Registered>(this) { openLogs(level) }
        CoroutineScope(Dispatchers.IO).launch {
            while (Operations.await<Outcome>(logs) { waitForLogs(logs.key) } !is Outcome.End) {
                val taken = Operations.call<Outcome.LogRecords>(logs) { takeLogs(logs.key) }
                taken.records.forEach { observers.log(LEVELS.getValue(it.level), it.text) }
            }
            logs.destroy()
        }
        return logs
    }

    /** From the least to the most verbose. */
    private val LEVELS =
        mapOf(
            LogLevel.ERROR to Level.ERROR,
            LogLevel.WARN to Level.WARNING,
            LogLevel.INFO to Level.INFO,
            LogLevel.DEBUG to Level.DEBUG,
        )
}
