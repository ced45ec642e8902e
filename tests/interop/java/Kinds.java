import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.FilterExpressionType;
import org.apache.rocketmq.client.apis.consumer.LitePushConsumer;
import org.apache.rocketmq.client.apis.consumer.MessageListener;
import org.apache.rocketmq.client.apis.message.MessageBuilder;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.SendReceipt;
import org.apache.rocketmq.client.apis.producer.Transaction;
import org.apache.rocketmq.client.apis.producer.TransactionResolution;

/**
 * Apache's Java client with every type of message: ENDPOINT NAME; prints "passed CHECK" per check. The topics
 * NAME-fifo, -delay, -transaction, -decision, -priority, -filter, -lite and the groups NAME-fifo (in order) and NAME-lite (bound to
 * the topic) must be there.
 */
public class Kinds {
    static final ClientServiceProvider PROVIDER = ClientServiceProvider.loadService();
    static ClientConfiguration configuration;
    static String name;

    public static void main(String[] arguments) throws Exception {
        configuration = ClientConfiguration.newBuilder().setEndpoints(arguments[0]).enableSsl(false).build();
        name = arguments[1];
        // Side by side: most of each is waiting, and closing a consumer waits for its polls.
        List<Check> checks = List.of(
            Kinds::fifo, Kinds::delay, Kinds::transaction, Kinds::lateDecision, Kinds::priority, Kinds::filter,
            Kinds::lite);
        List<Thread> running = new ArrayList<>();
        for (Check check : checks) {
            Thread thread = new Thread(() -> {
                try {
                    check.run();
                } catch (Throwable failed) {
                    failed.printStackTrace();
                }
            });
            thread.start();
            running.add(thread);
        }
        for (Thread thread : running) {
            thread.join();
        }
        System.exit(0);
    }

    interface Check {
        void run() throws Exception;
    }

    static void fifo() throws Exception {
        BlockingQueue<String> received = new LinkedBlockingQueue<>();
        int[] failures = {1};
        try (Producer producer = producer("fifo");
                AutoCloseable consumer = push("fifo", FilterExpression.SUB_ALL, view -> {
                    // The second message fails once: the ones behind it wait for it.
                    if (body(view).equals("1") && failures[0]-- > 0) {
                        return ConsumeResult.FAILURE;
                    }
                    received.add(body(view));
                    return ConsumeResult.SUCCESS;
                })) {
            for (int n = 0; n < 10; n++) {
                producer.send(message("fifo", n).setMessageGroup("one").build());
            }
            expect(take(received, 10), List.of("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"));
        }
        passed("fifo");
    }

    static void delay() throws Exception {
        BlockingQueue<String> received = new LinkedBlockingQueue<>();
        try (Producer producer = producer("delay");
                AutoCloseable consumer = push("delay", FilterExpression.SUB_ALL, keep(received))) {
            SendReceipt recalled = producer.send(delayed("recalled", 4_000));
            SendReceipt late = producer.send(delayed("late", 3_000));
            producer.send(delayed("later", 6_000));
            producer.recallMessage(name + "-delay", recalled.getRecallHandle());
            expect(take(received, 2), List.of("late", "later"));
            try {
                producer.recallMessage(name + "-delay", late.getRecallHandle());
                throw new AssertionError("what is delivered can't be recalled");
            } catch (org.apache.rocketmq.client.apis.ClientException expected) {
                passed("recall");
            }
        }
        passed("delay");
    }

    static void transaction() throws Exception {
        BlockingQueue<String> received = new LinkedBlockingQueue<>();
        try (Producer producer = PROVIDER.newProducerBuilder()
                .setClientConfiguration(configuration)
                .setTopics(name + "-transaction")
                .setTransactionChecker(view -> body(view).equals("orphan, good")
                    ? TransactionResolution.COMMIT : TransactionResolution.ROLLBACK)
                .build();
                AutoCloseable consumer = push("transaction", FilterExpression.SUB_ALL, keep(received))) {
            half(producer, "transaction", "committed").commit();
            half(producer, "transaction", "rolled back").rollback();
            half(producer, "transaction", "orphan, bad");
            half(producer, "transaction", "orphan, good");
            List<String> both = new ArrayList<>(take(received, 2));
            both.sort(null);
            expect(both, List.of("committed", "orphan, good"));
            passed("orphan_check");
            // A broker that asks twice delivers twice.
            List<String> decided = List.of("committed", "orphan, good", "null");
            for (int n = 0; n < 3; n++) {
                String more = String.valueOf(received.poll(2, TimeUnit.SECONDS));
                expect(decided.contains(more) ? "decided" : more, "decided");
            }
        }
        passed("transaction");
    }

    /** A decision that comes after the broker has asked is the last word: nothing is asked or delivered again. */
    static void lateDecision() throws Exception {
        BlockingQueue<String> received = new LinkedBlockingQueue<>();
        BlockingQueue<String> asked = new LinkedBlockingQueue<>();
        try (Producer producer = PROVIDER.newProducerBuilder()
                .setClientConfiguration(configuration)
                .setTopics(name + "-decision")
                .setTransactionChecker(view -> {
                    asked.add(body(view));
                    return body(view).equals("last") ? TransactionResolution.COMMIT : TransactionResolution.UNKNOWN;
                })
                .build();
                AutoCloseable consumer = push("decision", FilterExpression.SUB_ALL, keep(received))) {
            Transaction good = half(producer, "decision", "good");
            expect(take(asked, 1), List.of("good"));
            good.commit();
            expect(take(received, 1), List.of("good"));
            Transaction bad = half(producer, "decision", "bad");
            expect(take(asked, 1), List.of("bad"));
            bad.rollback();
            // A broker asks in the order of its half messages: with the question about the last, it has passed the others.
            half(producer, "decision", "last");
            expect(take(asked, 1), List.of("last"));
            expect(take(received, 1), List.of("last"));
        }
        passed("late_decision");
    }

    static Transaction half(Producer producer, String kind, String body) throws Exception {
        Transaction transaction = producer.beginTransaction();
        producer.send(message(kind, body).build(), transaction);
        return transaction;
    }

    static void priority() throws Exception {
        BlockingQueue<String> received = new LinkedBlockingQueue<>();
        try (Producer producer = producer("priority")) {
            for (int n = 0; n < 3; n++) {
                producer.send(message("priority", n).setPriority(n).build());
            }
            try (AutoCloseable consumer = push("priority", FilterExpression.SUB_ALL, keep(received))) {
                List<String> all = new ArrayList<>(take(received, 3));
                all.sort(null);
                expect(all, List.of("0", "1", "2"));
            }
        }
        passed("priority");
    }

    static void filter() throws Exception {
        BlockingQueue<String> received = new LinkedBlockingQueue<>();
        FilterExpression german = new FilterExpression("country = 'de' AND n > 1", FilterExpressionType.SQL92);
        try (Producer producer = producer("filter");
                AutoCloseable consumer = push("filter", "filter", german, keep(received))) {
            for (int n = 0; n < 4; n++) {
                producer.send(message("filter", n)
                    .addProperty("country", n % 2 == 0 ? "fr" : "de").addProperty("n", "" + n).build());
            }
            expect(take(received, 1), List.of("3"));
        }
        passed("filter");
    }

    static void lite() throws Exception {
        BlockingQueue<String> received = new LinkedBlockingQueue<>();
        try (Producer producer = producer("lite");
                LitePushConsumer consumer = PROVIDER.newLitePushConsumerBuilder()
                    .setClientConfiguration(configuration)
                    .bindTopic(name + "-lite")
                    .setConsumerGroup(name + "-lite")
                    .setMessageListener(view -> {
                        received.add(view.getLiteTopic().orElse("none") + ":" + body(view));
                        return ConsumeResult.SUCCESS;
                    })
                    .build()) {
            consumer.subscribeLite("a");
            consumer.subscribeLite("b");
            producer.send(message("lite", 1).setLiteTopic("a").build());
            producer.send(message("lite", 2).setLiteTopic("b").build());
            producer.send(message("lite", 3).setLiteTopic("c").build());
            List<String> both = new ArrayList<>(take(received, 2));
            both.sort(null);
            expect(both, List.of("a:1", "b:2"));
            // What was on its way may still come, and brokers learn of it one after the other: it must not fail.
            consumer.unsubscribeLite("a");
            producer.send(message("lite", 4).setLiteTopic("b").build());
            expect(take(received, 1), List.of("b:4"));
        }
        passed("lite");
    }

    static Producer producer(String kind) throws Exception {
        return PROVIDER.newProducerBuilder().setClientConfiguration(configuration).setTopics(name + "-" + kind).build();
    }

    static AutoCloseable push(String kind, FilterExpression filter, MessageListener listener) throws Exception {
        return push(kind, kind, filter, listener);
    }

    static AutoCloseable push(String group, String kind, FilterExpression filter, MessageListener listener)
            throws Exception {
        return PROVIDER.newPushConsumerBuilder()
            .setClientConfiguration(configuration)
            .setConsumerGroup(name + "-" + group)
            .setSubscriptionExpressions(Map.of(name + "-" + kind, filter))
            .setMessageListener(listener)
            .build();
    }

    static MessageListener keep(BlockingQueue<String> received) {
        return view -> {
            received.add(body(view));
            return ConsumeResult.SUCCESS;
        };
    }

    static MessageBuilder message(String kind, Object body) {
        byte[] bytes = String.valueOf(body).getBytes(StandardCharsets.UTF_8);
        return PROVIDER.newMessageBuilder().setTopic(name + "-" + kind).setBody(bytes);
    }

    static org.apache.rocketmq.client.apis.message.Message delayed(String body, long millis) {
        return message("delay", body).setDeliveryTimestamp(System.currentTimeMillis() + millis).build();
    }

    static String body(MessageView view) {
        return StandardCharsets.UTF_8.decode(view.getBody().duplicate()).toString();
    }

    static List<String> take(BlockingQueue<String> received, int count) throws Exception {
        List<String> taken = new ArrayList<>();
        while (taken.size() < count) {
            String next = received.poll(60, TimeUnit.SECONDS);
            if (next == null) {
                throw new AssertionError("only " + taken + " of " + count + " came");
            }
            taken.add(next);
        }
        return taken;
    }

    static void passed(String check) {
        System.out.println("passed " + check);
    }

    static void expect(Object seen, Object expected) {
        if (!seen.equals(expected)) {
            throw new AssertionError("expected " + expected + ", saw " + seen);
        }
    }
}
