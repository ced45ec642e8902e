package rocketmq.thin

import java.nio.file.Path

/** Runs a merged proxy in a new process, with its data in [data]. */
class MergedProxy(data: Path, vararg arguments: String) : AutoCloseable {
    private val process =
        ProcessBuilder(binary, "--listen", "127.0.0.1:0", "--data-dir", data.toString(), *arguments)
            .redirectError(ProcessBuilder.Redirect.INHERIT)
            .start()

    /** The address that the proxy listens on, as `host:port`. */
    val endpoint: String =
        process.inputReader().readLine()?.removePrefix("listening on ") ?: error("$binary ended during startup")

    override fun close() {
        process.destroyForcibly().waitFor()
    }

    private companion object {
        val binary: String = System.getenv("ROCKETMQ_THIN_PROXY") ?: System.getProperty("proxy.binary")
    }
}
