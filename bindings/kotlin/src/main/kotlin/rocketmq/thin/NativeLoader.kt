package rocketmq.thin

import com.sun.jna.Native
import java.io.File
import rocketmq.thin.internal.uniffiEnsureInitialized

/** Loads the native library. */
internal object NativeLoader {
    private const val LIBRARY = "rocketmq_thin_kotlin"

    /** Why the library cannot be loaded. Stored because the JVM reports why a class failed to initialize only once. */
    private val failure: LinkageError? by lazy {
        try {
            Native.register(NativeFunctions::class.java, LIBRARY)
            uniffiEnsureInitialized()
            null
        } catch (e: LinkageError) {
            e
        }
    }

    /**
     * Loads the library, unless it is already loaded.
     *
     * @throws UnsatisfiedLinkError if it cannot be loaded, at each call
     */
    fun load() {
        failure?.let { throw UnsatisfiedLinkError(explanation(it)).apply { initCause(it) } }
    }

    private fun explanation(failure: LinkageError): String {
        val reason = generateSequence<Throwable>(failure) { it.cause }.last().let { it.message ?: it.toString() }
        return "rocketmq-thin cannot load its native library: ${reason.trimEnd('.')}. ${advice(reason)}"
    }

    private fun advice(reason: String): String {
        val folder = temporaryFolder()
        val fault =
            when {
                !folder.exists() -> "does not exist"
                !folder.canWrite() -> "is not writable"
                NOEXEC.any { it in reason } -> "does not allow execution (it is probably mounted noexec)"
                else -> return "JNA unpacks it into $folder; choose another folder with -Djna.tmpdir=DIR."
            }
        return "JNA unpacks it into $folder, which $fault. Choose a folder that is writable and allows execution " +
            "with -Djna.tmpdir=DIR, or unpack the libraries yourself and set -Djna.boot.library.path (JNA's own) " +
            "and -Djna.library.path (lib$LIBRARY)."
    }

    /** Errors of `dlopen` for a file on a file system that is mounted noexec. */
    private val NOEXEC = listOf("failed to map segment", "Operation not permitted")

    /** Returns the folder that JNA uses, according to the rules of its `Native.getTempDir`. */
    private fun temporaryFolder(): File {
        System.getProperty("jna.tmpdir")?.let { return File(it) }
        val cache = System.getenv("XDG_CACHE_HOME")?.ifBlank { null } ?: "${System.getProperty("user.home")}/.cache"
        return File(cache, "JNA/temp").takeIf { it.exists() && it.canWrite() } ?: File(System.getProperty("java.io.tmpdir"))
    }
}
