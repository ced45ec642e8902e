package rocketmq.thin

import com.sun.jna.Native
import rocketmq.thin.internal.uniffiEnsureInitialized

/** Loads the native library. */
internal object NativeLoader {
    private const val LIBRARY = "rocketmq_thin_kotlin"

    /** Why the library cannot be loaded. The JVM reports only once why the initialization of a class failed. */
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
     * Loads the library if it is not loaded yet.
     *
     * @throws UnsatisfiedLinkError from each call, if the library cannot be loaded
     */
    fun load() {
        failure?.let { throw UnsatisfiedLinkError(explanation(it)).apply { initCause(it) } }
    }

    private fun explanation(failure: LinkageError): String {
        val reason = generateSequence<Throwable>(failure) { it.cause }.last().let { it.message ?: it.toString() }
        return "rocketmq-thin cannot load its native library: ${reason.trimEnd('.')}.${advice(reason)}"
    }

    /** Says how to choose another folder, if JNA could not unpack the library or execute what it had unpacked. */
    private fun advice(reason: String): String =
        if (UNUSABLE_FOLDER.any { it in reason }) {
            " JNA unpacks native libraries into a temporary folder, which must be writable, have free space and allow " +
                "execution (not mounted noexec). Choose another folder with -Djna.tmpdir=DIR, or unpack the libraries " +
                "yourself and set -Djna.boot.library.path (JNA's own) and -Djna.library.path (lib$LIBRARY)."
        } else ""

    /** Parts of the errors of JNA for a folder that it can't use, and of `dlopen` for a file that can't be executed. */
    private val UNUSABLE_FOLDER =
        listOf(
            "JNA temporary directory",
            "Failed to create temporary file",
            "failed to map segment",
            "Operation not permitted",
        )
}
