import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;

/** Apache's Java client under measurement. */
public class Client {
    static final int IN_FLIGHT = 32;
    // The JVM compiles what it finds to be hot; a long-running program is measured, not its first seconds.
    static final int WARM_UP = 10_000;
    static final byte[] BODY = "x".repeat(1024).getBytes();
    static final ClientServiceProvider PROVIDER = ClientServiceProvider.loadService();

    public static void main(String[] arguments) throws Exception {
        String address = arguments[arguments.length - 1];
        ClientConfiguration configuration =
            ClientConfiguration.newBuilder().setEndpoints(address).enableSsl(false).build();
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        if (arguments[0].equals("idle")) {
            for (int number = 0; number < Integer.parseInt(arguments[1]); number++) {
                keepReceiving(simpleConsumer(configuration, "bench-idle-" + number, "bench-idle"));
            }
            System.out.println("ready");
            lines.readLine();
        } else {
            measure(configuration, lines);
        }
        System.exit(0);
    }

    static void measure(ClientConfiguration configuration, BufferedReader lines) throws Exception {
        Producer producer =
            PROVIDER.newProducerBuilder().setClientConfiguration(configuration).setTopics("bench").build();
        SimpleConsumer consumer = simpleConsumer(configuration, "bench-apache-java", "bench");
        send(producer, WARM_UP);
        receive(consumer, WARM_UP / 2);
        push(configuration, WARM_UP / 2);
        System.out.println("ready");
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = line.split(" ");
            int count = Integer.parseInt(words[1]);
            switch (words[0]) {
                case "send" -> send(producer, count);
                case "receive" -> receive(consumer, count);
                default -> push(configuration, count);
            }
            System.out.println("done");
        }
    }

    static SimpleConsumer simpleConsumer(ClientConfiguration configuration, String group, String topic)
            throws Exception {
        return PROVIDER.newSimpleConsumerBuilder()
            .setClientConfiguration(configuration)
            .setConsumerGroup(group)
            .setAwaitDuration(Duration.ofSeconds(20))
            .setSubscriptionExpressions(Map.of(topic, FilterExpression.SUB_ALL))
            .build();
    }

    static void keepReceiving(SimpleConsumer consumer) {
        consumer.receiveAsync(32, Duration.ofSeconds(60)).whenComplete((views, error) -> keepReceiving(consumer));
    }

    static void send(Producer producer, int count) throws Exception {
        Semaphore room = new Semaphore(IN_FLIGHT);
        List<Throwable> errors = new ArrayList<>();
        for (int sent = 0; sent < count; sent++) {
            room.acquire();
            var message = PROVIDER.newMessageBuilder()
                .setTopic("bench").setTag("t").setKeys("key").setBody(BODY).build();
            producer.sendAsync(message).whenComplete((receipt, error) -> {
                if (error != null) {
                    synchronized (errors) {
                        errors.add(error);
                    }
                }
                room.release();
            });
        }
        room.acquire(IN_FLIGHT);
        if (!errors.isEmpty()) {
            throw new IllegalStateException(errors.size() + " sends failed", errors.get(0));
        }
    }

    /** Its acks take one message each; those of a batch run at the same time. */
    static void receive(SimpleConsumer consumer, int count) throws Exception {
        for (int left = count; left > 0;) {
            List<MessageView> views = consumer.receive(32, Duration.ofSeconds(60));
            CompletableFuture.allOf(views.stream().map(consumer::ackAsync).toArray(CompletableFuture[]::new)).join();
            left -= views.size();
        }
    }

    static void push(ClientConfiguration configuration, int count) throws Exception {
        CountDownLatch left = new CountDownLatch(count);
        var consumer = PROVIDER.newPushConsumerBuilder()
            .setClientConfiguration(configuration)
            .setConsumerGroup("bench-apache-java-push")
            .setConsumptionThreadCount(IN_FLIGHT)
            .setSubscriptionExpressions(Map.of("bench", FilterExpression.SUB_ALL))
            .setMessageListener(view -> {
                left.countDown();
                return ConsumeResult.SUCCESS;
            })
            .build();
        left.await();
        consumer.close();
    }
}
