package rocketmq.thin;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.function.Supplier;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The API for Java, which returns futures. */
class JavaApiTest {
    @Test
    void sendReceiveChangeInvisibleAndAck(@TempDir Path data) {
        try (var proxy = new MergedProxy(data)) {
            var client = Client.connectAsync(proxy.getEndpoint(), o -> o.requestTimeout(Duration.ofSeconds(5))).join();
            var producer = client.producerAsync(o -> o.topics("java")).join();
            var consumer = client.simpleConsumerAsync("javanese", o -> o.subscribe("java", Filter.tags("t"))).join();

            var receipts = producer.sendAllAsync(List.of(new Message("java", "hello", "t"))).join();
            var delivery = consumer.receiveAsync(1, Duration.ofSeconds(30)).join().get(0);
            assertEquals(receipts.get(0).join().getMessageId(), delivery.getMessageId());
            assertEquals("hello", new String(delivery.getBody(), StandardCharsets.UTF_8));
            consumer.changeInvisibleAsync(delivery, Duration.ofMinutes(1)).join();
            consumer.ackAsync(delivery).join();

            var waiting = consumer.receiveAsync();
            assertTrue(waiting.cancel(false));
            assertThrows(CancellationException.class, waiting::join);

            assertEquals("Client(" + proxy.getEndpoint() + ")", client.toString());
            assertEquals("Producer(" + proxy.getEndpoint() + ")", producer.toString());
            assertEquals("SimpleConsumer(javanese, " + proxy.getEndpoint() + ")", consumer.toString());

            client.closeAsync(Duration.ofSeconds(5)).join();
            var late = producer.sendAsync(new Message("java", "late"));
            var failure = assertThrows(CompletionException.class, late::join);
            assertInstanceOf(RocketMQException.Closed.class, failure.getCause());
        }
    }

    @Test
    void theErrorNamesATextThatCannotBeSent(@TempDir Path data) {
        try (var proxy = new MergedProxy(data)) {
            var client = Client.connectAsync(proxy.getEndpoint()).join();
            var producer = client.producerAsync(o -> o.topics("java")).join();
            var refused = Map.of(
                    "the message's keys[1] must not be null",
                    new Message("java", "x", null, Arrays.asList("a", null)),
                    "the message's tag must be Unicode: it contains a lone surrogate",
                    new Message("java", "x", "\ud800"));
            refused.forEach((reason, message) -> {
                var transaction = producer.begin();
                for (Supplier<CompletableFuture<?>> send : List.<Supplier<CompletableFuture<?>>>of(
                        () -> producer.sendAsync(message),
                        () -> producer.sendAllAsync(List.of(message)),
                        () -> transaction.sendAsync(message))) {
                    var failure = assertThrows(CompletionException.class, () -> send.get().join()).getCause();
                    assertInstanceOf(IllegalArgumentException.class, failure);
                    assertEquals(reason, failure.getMessage());
                }
            });
            client.closeAsync().join();
        }
    }

    @Test
    void transactionsHealthAndMetrics(@TempDir Path data) throws Exception {
        try (var proxy = new MergedProxy(data)) {
            var client = Client.connectAsync(proxy.getEndpoint(), o -> o
                .credentialsProviderAsync(() -> CompletableFuture.completedFuture(new Credentials("reader", "s3cret")))
                .initialRetryDelay(Duration.ofMillis(10))
                .interceptor(new Interceptor() {
                    @Override
                    public Message beforeSend(Message message) {
                        return message.property("from", "java");
                    }
                })).join();
            var statuses = new LinkedBlockingQueue<Status>();
            var watching = client.statusChangesAsync(health -> statuses.add(health.getStatus()));
            assertEquals(Status.Connected, statuses.take());

            var producer = client.producerAsync(o -> o.topics("java").blockingChecker(check -> Decision.Unknown)).join();
            producer.begin().rollbackAsync().join();
            producer.sendAsync(new Message("java", "hello").property("a", "b")).join();
            assertEquals(Status.Connected, client.health().getStatus());
            assertEquals(1, client.metrics().get("rocketmq_send_cost_time").getPoints().size());
            assertThrows(IllegalArgumentException.class, () -> new Message("java", "x").delay(Duration.ofSeconds(-1)));

            client.closeAsync().join();
            watching.join();
        }
    }
}
