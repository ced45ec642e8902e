import java.nio.charset.StandardCharsets;

/** What the programs on Apache's classic client share. */
class Checks {
    interface Check {
        void run() throws Exception;
    }

    static void check(String name, Check check) {
        try {
            check.run();
            System.out.println("passed " + name);
        } catch (Throwable failure) {
            System.out.println("failed " + name);
            failure.printStackTrace();
        }
    }

    static void expect(boolean held, Object shown) {
        if (!held) {
            throw new IllegalStateException(String.valueOf(shown));
        }
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }
}
