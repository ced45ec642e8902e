import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;

/** Apache's Java client against a proxy: ENDPOINT TOPIC GROUP tls|plaintext; prints "passed CHECK" per check. */
public class Interop {
    static final int COUNT = 5;

    public static void main(String[] arguments) throws Exception {
        String topic = arguments[1];
        String group = arguments[2];
        ClientServiceProvider provider = ClientServiceProvider.loadService();
        ClientConfiguration configuration = ClientConfiguration.newBuilder()
            .setEndpoints(arguments[0])
            .enableSsl(arguments[3].equals("tls"))
            .build();
        Map<String, FilterExpression> all = Map.of(topic, FilterExpression.SUB_ALL);

        try (Producer producer = provider.newProducerBuilder()
                .setClientConfiguration(configuration).setTopics(topic).build()) {
            Set<String> sent = send(provider, producer, topic);
            passed("send");
            try (SimpleConsumer consumer = provider.newSimpleConsumerBuilder()
                    .setClientConfiguration(configuration)
                    .setConsumerGroup(group)
                    .setAwaitDuration(Duration.ofSeconds(5))
                    .setSubscriptionExpressions(all)
                    .build()) {
                receiveAndAck(consumer, sent);
            }
            push(provider, configuration, arguments);
        }
        System.exit(0);
    }

    static Set<String> send(ClientServiceProvider provider, Producer producer, String topic) throws Exception {
        Set<String> ids = new HashSet<>();
        for (int n = 0; n < COUNT; n++) {
            ids.add(producer.send(provider.newMessageBuilder()
                .setTopic(topic)
                .setTag("new")
                .setKeys("k1", "k2")
                .addProperty("region", "eu")
                .setBody(("hello " + n).getBytes(StandardCharsets.UTF_8))
                .build()).getMessageId().toString());
        }
        return ids;
    }

    static void receiveAndAck(SimpleConsumer consumer, Set<String> sent) throws Exception {
        List<MessageView> received = new ArrayList<>();
        while (received.size() < COUNT) {
            for (MessageView view : consumer.receive(16, Duration.ofSeconds(30))) {
                expect(sent.contains(view.getMessageId().toString()), "a message that was not sent: " + view);
                expect(text(view.getBody()).startsWith("hello "), "another body: " + text(view.getBody()));
                expect(view.getTag().orElse("").equals("new"), "another tag: " + view.getTag());
                expect(view.getKeys().containsAll(List.of("k1", "k2")), "other keys: " + view.getKeys());
                expect("eu".equals(view.getProperties().get("region")), "other properties: " + view.getProperties());
                expect(view.getDeliveryAttempt() == 1, "attempt " + view.getDeliveryAttempt());
                received.add(view);
            }
        }
        passed("receive");

        consumer.changeInvisibleDuration(received.get(0), Duration.ofSeconds(10));
        passed("change_invisible");

        for (MessageView view : received) {
            consumer.ack(view);
        }
        // Three long polls are longer than the shortest lease.
        for (int n = 0; n < 3; n++) {
            List<MessageView> left = consumer.receive(16, Duration.ofSeconds(10));
            expect(left.isEmpty(), "received again after the ack: " + left);
        }
        passed("ack");
    }

    static void push(ClientServiceProvider provider, ClientConfiguration configuration, String[] arguments)
            throws Exception {
        CountDownLatch left = new CountDownLatch(COUNT);
        AutoCloseable consumer = provider.newPushConsumerBuilder()
            .setClientConfiguration(configuration)
            .setConsumerGroup(arguments[2] + "-push")
            .setSubscriptionExpressions(Map.of(arguments[1], FilterExpression.SUB_ALL))
            .setMessageListener(view -> {
                left.countDown();
                return ConsumeResult.SUCCESS;
            })
            .build();
        expect(left.await(60, TimeUnit.SECONDS), left.getCount() + " messages were not pushed");
        passed("push");
        consumer.close();
    }

    static String text(ByteBuffer body) {
        return StandardCharsets.UTF_8.decode(body.duplicate()).toString();
    }

    static void passed(String check) {
        System.out.println("passed " + check);
    }

    static void expect(boolean holds, String otherwise) {
        if (!holds) {
            throw new AssertionError(otherwise);
        }
    }
}
