package rocketmq.thin;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletionException;
import java.util.concurrent.LinkedBlockingQueue;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Consumers in Java: blocking handlers, and streams of messages. */
class JavaConsumersTest {
    @Test
    void aBlockingHandler(@TempDir Path data) throws Exception {
        try (var proxy = new MergedProxy(data)) {
            var client = Client.connectAsync(proxy.getEndpoint()).join();
            var handled = new LinkedBlockingQueue<String>();
            var consumer = client.pushConsumerAsync("javanese", options -> {
                options.subscribe("java").concurrency(4).invisibleDuration(Duration.ofSeconds(30)).blockingHandler(delivery -> {
                    handled.put(new String(delivery.getBody()) + " " + delivery.getAttempt());
                    if (delivery.getAttempt() > 1) return ConsumeResult.ACK;
                    if (delivery.getTag() == null) throw new IOException("as tested");
                    if (delivery.getTag().equals("null")) return null;
                    return ConsumeResult.retryAfter(Duration.ZERO);
                });
            }).join();
            var producer = client.producerAsync().join();
            var sent = List.of(
                    new Message("java", "one", "tag"), new Message("java", "two"), new Message("java", "three", "null"));
            producer.sendAllAsync(sent).join();
            var all = new TreeSet<String>();
            for (int count = 0; count < 6; count++) all.add(handled.take());
            assertEquals(Set.of("one 1", "one 2", "two 1", "two 2", "three 1", "three 2"), all);

            consumer.subscribeAsync("other", Filter.tags("t")).join();
            consumer.unsubscribeAsync("java").join();
            assertEquals(Map.of("other", Filter.tags("t")), consumer.subscriptions());
            var refused = assertThrows(
                    CompletionException.class, () -> consumer.subscribeLiteAsync("a", OffsetOption.tail(5)).join());
            assertTrue(refused.getCause() instanceof RocketMQException.InvalidArgument);
            consumer.pause();
            assertTrue(consumer.isPaused());
            assertEquals(0, consumer.closeAsync(Duration.ofSeconds(5)).join().getAbandoned());
            client.closeAsync().join();
        }
    }

    @Test
    void aStreamOfMessages(@TempDir Path data) {
        try (var proxy = new MergedProxy(data)) {
            var client = Client.connectAsync(proxy.getEndpoint()).join();
            var producer = client.producerAsync(options -> options.topics("one", "two")).join();
            var consumer = client.simpleConsumerAsync("javanese", options -> options.subscribe("one")).join();
            consumer.subscribeAsync("two", Filter.tags("t")).join();
            assertEquals(Map.of("one", Filter.ALL, "two", Filter.tags("t")), consumer.subscriptions());

            var messages = consumer.messagesAsync();
            var cancelled = messages.nextAsync();
            assertTrue(cancelled.cancel(false));
            producer.sendAllAsync(List.of(new Message("one", "a"), new Message("two", "b", "t"))).join();
            for (int received = 0; received < 2; received++) {
                var delivery = messages.nextAsync().join();
                consumer.keepLease(delivery, Duration.ofMinutes(1));
                consumer.ackAsync(delivery).join();
            }
            var waiting = messages.nextAsync();
            messages.close();
            assertThrows(CancellationException.class, waiting::join);
            assertNull(messages.nextAsync().join());

            try (var others = consumer.messagesAsync(10, 1_000_000L)) {
                var last = others.nextAsync();
                consumer.closeAsync().join();
                assertNull(last.join());
            }
            client.closeAsync().join();
        }
    }
}
