import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;

/** Apache's classic client as a load: {@code java Classic.java NAME_SERVER TOPIC}. Reads {@code send N} and {@code consume N}. */
public class Classic {
    static final int IN_FLIGHT = 64;
    static final byte[] BODY = "x".repeat(1024).getBytes();

    public static void main(String[] arguments) {
        try {
            run(arguments);
        } catch (Exception failure) {
            System.out.println(failure);
            System.exit(1);
        }
        System.exit(0);
    }

    static void run(String[] arguments) throws Exception {
        String nameServer = arguments[0];
        String topic = arguments[1];
        DefaultMQProducer producer = new DefaultMQProducer(topic + "-producer");
        producer.setNamesrvAddr(nameServer);
        producer.setSendMsgTimeout(30_000);
        producer.start();
        System.out.println("ready");
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = line.split(" ");
            int count = Integer.parseInt(words[1]);
            if (words[0].equals("send")) {
                send(producer, topic, count);
            } else {
                consume(nameServer, topic, count);
            }
            System.out.println("done");
        }
    }

    /** What a busy broker refuses is sent again. */
    static void send(DefaultMQProducer producer, String topic, int count) throws Exception {
        for (int left = count; left > 0;) {
            int refused = sendOnce(producer, topic, left);
            if (refused == left) {
                throw new IllegalStateException("no message could be sent");
            }
            left = refused;
        }
    }

    /** Returns how many messages were refused. */
    static int sendOnce(DefaultMQProducer producer, String topic, int count) throws Exception {
        Semaphore room = new Semaphore(IN_FLIGHT);
        AtomicInteger refused = new AtomicInteger();
        for (int sent = 0; sent < count; sent++) {
            room.acquire();
            producer.send(new Message(topic, "t", "key", BODY), new SendCallback() {
                @Override
                public void onSuccess(SendResult result) {
                    room.release();
                }

                @Override
                public void onException(Throwable error) {
                    refused.incrementAndGet();
                    room.release();
                }
            });
        }
        room.acquire(IN_FLIGHT);
        return refused.get();
    }

    static void consume(String nameServer, String topic, int count) throws Exception {
        CountDownLatch left = new CountDownLatch(count);
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(topic);
        consumer.setNamesrvAddr(nameServer);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> left.countDown());
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        left.await();
        consumer.shutdown();
    }
}
