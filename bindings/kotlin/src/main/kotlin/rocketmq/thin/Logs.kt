package rocketmq.thin

import java.lang.System.Logger.Level
import java.util.IdentityHashMap
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.launch
import rocketmq.thin.internal.LogLevel
import rocketmq.thin.internal.Outcome
import rocketmq.thin.internal.closeLogs
import rocketmq.thin.internal.followLogs
import rocketmq.thin.internal.logsArrived
import rocketmq.thin.internal.takeLogs

/**
 * Passes on what clients report to the loggers of applications. The reports are those of all clients, so that a logger
 * follows them once, however many clients have it.
 */
internal object Logs {
    private class Follower(val made: Outcome.Made, var clients: Int)

    private val followers = IdentityHashMap<System.Logger, Follower>()

    /** Follows the reports with the logger of [observers], until the result is closed as often as this was called. */
    @Synchronized
    fun follow(observers: Observers): AutoCloseable {
        val logger = observers.logger ?: return AutoCloseable {}
        // From the finest to the coarsest.
        val level = LEVELS.entries.lastOrNull { logger.isLoggable(it.value) }?.key ?: return AutoCloseable {}
        val follower = followers.getOrPut(logger) { Follower(forward(level, observers), 0) }
        follower.clients++
        return AutoCloseable { unfollow(logger, follower) }
    }

    @Synchronized
    private fun unfollow(logger: System.Logger, follower: Follower) {
        if (--follower.clients > 0) return
        followers.remove(logger)
        closeLogs(follower.made.key)
    }

    private fun forward(level: LogLevel, observers: Observers): Outcome.Made {
        val logs = Operations.answer<Outcome.Made>(this) { followLogs(level) }
        CoroutineScope(Dispatchers.IO).launch {
            while (Operations.await<Outcome>(logs) { logsArrived(logs.key) } !is Outcome.End) {
                val taken = Operations.answer<Outcome.Logged>(logs) { takeLogs(logs.key) }
                taken.records.forEach { observers.log(LEVELS.getValue(it.level), it.text) }
            }
            logs.destroy()
        }
        return logs
    }

    private val LEVELS =
        mapOf(
            LogLevel.ERROR to Level.ERROR,
            LogLevel.WARN to Level.WARNING,
            LogLevel.INFO to Level.INFO,
            LogLevel.DEBUG to Level.DEBUG,
        )
}
