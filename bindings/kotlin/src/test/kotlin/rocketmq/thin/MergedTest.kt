package rocketmq.thin

import java.nio.file.Path
import java.util.UUID
import kotlin.time.Duration.Companion.minutes
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import org.junit.jupiter.api.AfterAll
import org.junit.jupiter.api.BeforeAll
import org.junit.jupiter.api.TestInstance
import org.junit.jupiter.api.io.CleanupMode
import org.junit.jupiter.api.io.TempDir

/** The base class of tests against one merged proxy, which creates topics when they are first used. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
abstract class MergedTest {
    protected lateinit var proxy: MergedProxy
        private set

    @BeforeAll
    fun start(@TempDir(cleanup = CleanupMode.NEVER) data: Path) {
        proxy = MergedProxy(data, "--auto-create-topics", "true")
    }

    @AfterAll
    fun stop() = proxy.close()

    protected fun unique(name: String) = "$name-${UUID.randomUUID()}"

    /** Runs a test with a new client. A test that hangs fails after a minute. */
    protected fun test(options: ClientOptions.() -> Unit = {}, block: suspend (Client) -> Unit) = runBlocking {
        withTimeout(1.minutes) { Client.connect(proxy.endpoint, options).use { block(it) } }
    }
}
