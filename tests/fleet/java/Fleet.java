import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.LitePushConsumer;
import org.apache.rocketmq.client.apis.consumer.MessageListener;
import org.apache.rocketmq.client.apis.message.MessageBuilder;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.Transaction;
import org.apache.rocketmq.client.apis.producer.TransactionResolution;

/**
 * Load of every type of message but NORMAL by Apache's Java client: ENDPOINT NAME SECONDS PATIENCE proxies|broker (what
 * breaks) TYPE,TYPE. Prints a line for each type, "passed TYPE: ..." or "FAILED TYPE: ...": everything that was acknowledged has
 * come, and nothing that was rolled back.
 */
public class Fleet {
    static final ClientServiceProvider PROVIDER = ClientServiceProvider.loadService();
    static ClientConfiguration configuration;
    static String name;
    static long end;
    static long patience;
    static boolean brokerBreaks;

    public static void main(String[] arguments) throws Exception {
        configuration = ClientConfiguration.newBuilder()
            .setEndpoints(arguments[0]).enableSsl(false).setRequestTimeout(Duration.ofSeconds(5)).build();
        name = arguments[1];
        end = System.currentTimeMillis() + Integer.parseInt(arguments[2]) * 1000L;
        patience = Integer.parseInt(arguments[3]) * 1000L;
        brokerBreaks = arguments[4].equals("broker");
        List<String> wanted = List.of(arguments[5].split(","));
        List<Kind> kinds =
            List.of(new Fifo(), new Delay(), new Transactions(), new Priority(), new Lite());
        List<Thread> running = new ArrayList<>();
        for (Kind kind : kinds) {
            if (!wanted.contains(kind.kind)) {
                continue;
            }
            Thread thread = new Thread(kind::play);
            thread.start();
            running.add(thread);
        }
        for (Thread thread : running) {
            thread.join();
        }
        System.out.flush();
        // Consumers are closed by the end of the process.
        Runtime.getRuntime().halt(0);
    }

    /** One type of message: what was promised, and what has come. */
    abstract static class Kind {
        final String kind;
        final Set<String> acknowledged = ConcurrentHashMap.newKeySet();
        final Map<String, AtomicInteger> received = new ConcurrentHashMap<>();
        final List<String> errors = new ArrayList<>();
        final Set<String> wrong = ConcurrentHashMap.newKeySet();

        Kind(String kind) {
            this.kind = kind;
        }

        abstract Producer producer() throws Exception;

        abstract void consume() throws Exception;

        /** Sends one message, and names it. */
        abstract void send(Producer producer, int count) throws Exception;

        void play() {
            try {
                consume();
                Producer producer = producer();
                for (int count = 0; System.currentTimeMillis() < end; count++) {
                    try {
                        send(producer, count);
                    } catch (ClientException failed) {
                        errors.add(count + ": " + failed);
                    }
                    Thread.sleep(20);
                }
                long last = System.currentTimeMillis() + patience;
                while (System.currentTimeMillis() < last && !received.keySet().containsAll(acknowledged)) {
                    Thread.sleep(200);
                }
                report();
            } catch (Throwable failed) {
                failed.printStackTrace();
                System.out.println("FAILED " + kind + ": " + failed);
            }
        }

        void report() {
            List<String> missing = new ArrayList<>(acknowledged);
            missing.removeAll(received.keySet());
            int again = received.values().stream().mapToInt(times -> times.get() - 1).sum();
            boolean well = missing.isEmpty() && wrong.isEmpty() && !acknowledged.isEmpty()
                && (errors.isEmpty() || brokerBreaks && hasItsQueue());
            System.out.println((well ? "passed " : "FAILED ") + kind + ": " + acknowledged.size() + " acknowledged, "
                + missing.size() + " missing, " + again + " came again, " + wrong.size() + " wrong, "
                + errors.size() + " errors" + told());
            if (!well) {
                System.out.println("  missing " + first(missing) + ", wrong " + first(new ArrayList<>(wrong))
                    + ", errors " + first(errors));
            }
        }

        String told() {
            return "";
        }

        /** Whether a message can go to one queue alone: without its broker it can't be sent. */
        boolean hasItsQueue() {
            return false;
        }

        ConsumeResult received(MessageView view) {
            received.computeIfAbsent(body(view), key -> new AtomicInteger()).incrementAndGet();
            return ConsumeResult.SUCCESS;
        }

        MessageBuilder message(String body) {
            return PROVIDER.newMessageBuilder().setTopic(name + "-" + kind)
                .setBody(body.getBytes(StandardCharsets.UTF_8));
        }

        Producer plainProducer() throws Exception {
            return PROVIDER.newProducerBuilder()
                .setClientConfiguration(configuration).setTopics(name + "-" + kind).build();
        }

        void push(MessageListener listener) throws Exception {
            PROVIDER.newPushConsumerBuilder()
                .setClientConfiguration(configuration)
                .setConsumerGroup(name + "-" + kind)
                .setSubscriptionExpressions(Map.of(name + "-" + kind, FilterExpression.SUB_ALL))
                .setMessageListener(listener)
                .build();
        }
    }

    static class Fifo extends Kind {
        final Map<String, Integer> newest = new ConcurrentHashMap<>();

        Fifo() {
            super("fifo");
        }

        boolean hasItsQueue() {
            return true;
        }

        Producer producer() throws Exception {
            return plainProducer();
        }

        void consume() throws Exception {
            push(view -> {
                String[] words = body(view).split("-");
                int count = Integer.parseInt(words[1]);
                if (!received.containsKey(body(view)) && newest.getOrDefault(words[0], -1) > count) {
                    wrong.add(body(view) + " came behind " + newest.get(words[0]));
                }
                newest.merge(words[0], count, Math::max);
                return received(view);
            });
        }

        void send(Producer producer, int count) throws Exception {
            String group = "g" + count % 4;
            String body = group + "-" + count;
            producer.send(message(body).setMessageGroup(group).build());
            acknowledged.add(body);
        }
    }

    static class Delay extends Kind {
        Delay() {
            super("delay");
        }

        Producer producer() throws Exception {
            return plainProducer();
        }

        void consume() throws Exception {
            push(this::received);
        }

        void send(Producer producer, int count) throws Exception {
            long at = System.currentTimeMillis() + 2000 + count % 5 * 1000;
            producer.send(message("" + count).setDeliveryTimestamp(at).build());
            acknowledged.add("" + count);
        }
    }

    static class Transactions extends Kind {
        final AtomicInteger checks = new AtomicInteger();
        final AtomicInteger unknown = new AtomicInteger();

        Transactions() {
            super("transaction");
        }

        Producer producer() throws Exception {
            return PROVIDER.newProducerBuilder()
                .setClientConfiguration(configuration)
                .setTopics(name + "-" + kind)
                .setTransactionChecker(view -> {
                    checks.incrementAndGet();
                    return good(body(view)) ? TransactionResolution.COMMIT : TransactionResolution.ROLLBACK;
                })
                .build();
        }

        /** One in three is to be dropped. */
        static boolean good(String body) {
            return Integer.parseInt(body) % 3 != 2;
        }

        void consume() throws Exception {
            push(view -> {
                if (!good(body(view))) {
                    wrong.add(body(view) + " was rolled back");
                }
                return received(view);
            });
        }

        void send(Producer producer, int count) throws Exception {
            String body = "" + count;
            Transaction transaction = producer.beginTransaction();
            try {
                producer.send(message(body).build(), transaction);
            } catch (ClientException | RuntimeException unanswered) {
                // This client repeats no half message. If it was stored, the broker asks.
                unknown.incrementAndGet();
                return;
            }
            if (good(body)) {
                acknowledged.add(body);
            }
            // One in six is left to the broker's question; what can't be decided here is asked about, too.
            if (count % 6 > 1) {
                try {
                    if (good(body)) {
                        transaction.commit();
                    } else {
                        transaction.rollback();
                    }
                } catch (ClientException | RuntimeException undecided) {
                    // The broker asks.
                }
            }
        }

        String told() {
            return ", " + checks.get() + " checks, " + unknown.get() + " half messages without an answer";
        }
    }

    static class Priority extends Kind {
        Priority() {
            super("priority");
        }

        Producer producer() throws Exception {
            return plainProducer();
        }

        void consume() throws Exception {
            push(this::received);
        }

        void send(Producer producer, int count) throws Exception {
            producer.send(message("" + count).setPriority(count % 8).build());
            acknowledged.add("" + count);
        }
    }

    static class Lite extends Kind {
        Lite() {
            super("lite");
        }

        boolean hasItsQueue() {
            return true;
        }

        Producer producer() throws Exception {
            return plainProducer();
        }

        void consume() throws Exception {
            LitePushConsumer consumer = PROVIDER.newLitePushConsumerBuilder()
                .setClientConfiguration(configuration)
                .bindTopic(name + "-lite")
                .setConsumerGroup(name + "-lite")
                .setMessageListener(this::received)
                .build();
            for (int n = 0; n < 8; n++) {
                consumer.subscribeLite("lite-" + n);
            }
        }

        void send(Producer producer, int count) throws Exception {
            producer.send(message("" + count).setLiteTopic("lite-" + count % 8).build());
            acknowledged.add("" + count);
        }
    }

    static String body(MessageView view) {
        return StandardCharsets.UTF_8.decode(view.getBody().duplicate()).toString();
    }

    static List<String> first(List<String> all) {
        return all.subList(0, Math.min(all.size(), 3));
    }
}
