import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** The consumers of Apache's classic client, with the proxy as its name server: {@code java Consumers HOST:PORT NAME}. */
public class Consumers extends Checks {
    private static final int COUNT = 40;
    private static String nameServer;
    private static String name;
    private static String topic;

    public static void main(String[] arguments) throws Exception {
        nameServer = arguments[0];
        name = arguments[1];
        topic = name + "-consumed";
        DefaultMQProducer producer = new DefaultMQProducer(name);
        producer.setNamesrvAddr(nameServer);
        // A loaded machine is slow.
        producer.setSendMsgTimeout(30_000);
        producer.start();
        for (int number = 0; number < COUNT; number++) {
            Message message = new Message(topic, "tag", bytes(String.valueOf(number)));
            producer.send(message, (queues, sent, index) -> queues.get((int) index % queues.size()), number);
        }
        producer.shutdown();
        check("concurrently", Consumers::concurrently);
        check("sent_back", Consumers::sentBack);
        check("in_order", Consumers::inOrder);
        check("pull", Consumers::pull);
        check("lite_pull", Consumers::litePull);
        System.exit(0);
    }

    /** Two consumers share a topic, and the next one finds nothing left. */
    private static void concurrently() throws Exception {
        Set<String> seen = new ConcurrentSkipListSet<>();
        CountDownLatch left = new CountDownLatch(COUNT);
        List<DefaultMQPushConsumer> consumers = new ArrayList<>();
        for (String instance : List.of("one", "other")) {
            DefaultMQPushConsumer consumer = consumer("concurrently");
            consumer.setInstanceName(instance);
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                for (MessageExt message : messages) {
                    if (seen.add(body(message))) {
                        left.countDown();
                    }
                }
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            consumer.start();
            consumers.add(consumer);
        }
        expect(left.await(60, TimeUnit.SECONDS), seen);
        consumers.forEach(DefaultMQPushConsumer::shutdown);
    }

    /** What is sent back comes again as another attempt. */
    private static void sentBack() throws Exception {
        CountDownLatch again = new CountDownLatch(1);
        Set<String> failures = ConcurrentHashMap.newKeySet();
        DefaultMQPushConsumer consumer = consumer("sent-back");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) {
                if (!body(message).equals("7")) {
                    continue;
                }
                if (message.getReconsumeTimes() == 1) {
                    again.countDown();
                } else {
                    failures.add(message.getMsgId());
                    context.setDelayLevelWhenNextConsume(1);
                    return ConsumeConcurrentlyStatus.RECONSUME_LATER;
                }
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        expect(again.await(60, TimeUnit.SECONDS), failures);
        consumer.shutdown();
    }

    /** The messages of a queue come in their order. */
    private static void inOrder() throws Exception {
        Map<Integer, Integer> last = new ConcurrentHashMap<>();
        Set<String> faults = ConcurrentHashMap.newKeySet();
        CountDownLatch left = new CountDownLatch(COUNT);
        DefaultMQPushConsumer consumer = consumer("in-order");
        consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            for (MessageExt message : messages) {
                int number = Integer.parseInt(body(message));
                Integer before = last.put(message.getQueueId(), number);
                if (before != null && before >= number) {
                    faults.add(before + " before " + number);
                }
                left.countDown();
            }
            return ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.start();
        expect(left.await(60, TimeUnit.SECONDS), last);
        expect(faults.isEmpty(), faults);
        consumer.shutdown();
    }

    /** Queues are read by offset, and offsets are stored. */
    private static void pull() throws Exception {
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer(name + "-pull");
        consumer.setNamesrvAddr(nameServer);
        consumer.start();
        int pulled = 0;
        for (MessageQueue queue : new TreeSet<>(consumer.fetchSubscribeMessageQueues(topic))) {
            long offset = consumer.minOffset(queue);
            while (true) {
                PullResult result = consumer.pull(queue, "*", offset, 3);
                if (result.getPullStatus() != PullStatus.FOUND) {
                    break;
                }
                for (MessageExt message : result.getMsgFoundList()) {
                    expect(message.getQueueOffset() == offset++, message);
                    pulled++;
                }
            }
            expect(offset == consumer.maxOffset(queue), queue);
            consumer.getDefaultMQPullConsumerImpl().updateConsumeOffset(queue, offset);
            consumer.getOffsetStore().persist(queue);
            while (consumer.fetchConsumeOffset(queue, true) != offset) {
                // It is stored by a request without an answer.
                Thread.onSpinWait();
            }
        }
        expect(pulled == COUNT, pulled);
        consumer.shutdown();
    }

    private static void litePull() throws Exception {
        DefaultLitePullConsumer consumer = new DefaultLitePullConsumer(name + "-lite-pull");
        consumer.setNamesrvAddr(nameServer);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "*");
        consumer.start();
        Set<String> seen = new TreeSet<>();
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
        while (seen.size() < COUNT && System.nanoTime() < end) {
            consumer.poll(1000).forEach(message -> seen.add(body(message)));
        }
        expect(seen.size() == COUNT, seen);
        consumer.shutdown();
    }

    private static DefaultMQPushConsumer consumer(String group) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(name + "-" + group);
        consumer.setNamesrvAddr(nameServer);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "*");
        return consumer;
    }

    private static String body(MessageExt message) {
        return new String(message.getBody(), StandardCharsets.UTF_8);
    }
}
