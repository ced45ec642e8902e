import org.jetbrains.kotlin.cli.common.ExitCode;
import org.jetbrains.kotlin.cli.jvm.K2JVMCompiler;

/**
 * Compiles several Kotlin programs, each by itself. One JVM for all of them saves the start of the compiler, which takes
 * longer than a program.
 *
 * Arguments: the class path of the programs; then, for each, the folder of its classes and its source file.
 */
class CompileAll {
    public static void main(String[] arguments) {
        boolean ok = true;
        for (int i = 1; i + 1 < arguments.length; i += 2) {
            ExitCode code = new K2JVMCompiler().exec(System.err, "-no-stdlib", "-no-reflect", "-jvm-target", "17",
                    "-cp", arguments[0], "-d", arguments[i], arguments[i + 1]);
            ok &= code == ExitCode.OK;
        }
        System.exit(ok ? 0 : 1);
    }
}
