package rocketmq.thin

import java.nio.file.Files
import java.nio.file.Path
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir

/** Failures to load the native library. */
class NativeLoaderTest {
    @Test
    fun `each call fails with the same error if the library cannot be unpacked`(@TempDir folder: Path) {
        // JNA cannot create a folder inside a file.
        val unusable = Files.writeString(folder.resolve("file"), "").resolve("folder")
        val error = failure("-Djna.tmpdir=$unusable")
        assertTrue("'$unusable' does not exist" in error, error)
        assertTrue("-Djna.tmpdir=DIR" in error, error)
    }

    @Test
    fun `another folder is not recommended if there is no library for the platform`() {
        val error = failure("-Djna.prefix=unknown-platform")
        assertTrue("unknown-platform" in error && "not found" in error, error)
        assertFalse("jna.tmpdir" in error, error)
    }

    /** Returns the error of each attempt to connect in a JVM with this option. */
    private fun failure(option: String): String {
        val java = Path.of(System.getProperty("java.home"), "bin", "java").toString()
        val classes = System.getProperty("java.class.path")
        val connecting =
            ProcessBuilder(java, "-cp", classes, option, ConnectTwice::class.java.name)
                .redirectError(ProcessBuilder.Redirect.INHERIT)
                .start()
        val errors = connecting.inputReader().readLines()
        assertEquals(2, errors.size, "$errors")
        assertEquals(errors[0], errors[1])
        assertTrue(errors[0].startsWith("java.lang.UnsatisfiedLinkError: rocketmq-thin cannot load"), errors[0])
        return errors[0]
    }
}

/** Prints the errors of two attempts to connect. */
object ConnectTwice {
    @JvmStatic
    fun main(arguments: Array<String>) =
        repeat(2) { println(runCatching { Client.connectAsync("localhost").join() }.exceptionOrNull()?.cause) }
}
