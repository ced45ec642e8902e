import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Apache's classic client, with the proxy as its name server: {@code java Producers HOST:PORT NAME}. */
public class Producers extends Checks {
    private static String nameServer;
    private static String normal;
    private static String delay;
    private static String transaction;

    public static void main(String[] arguments) throws Exception {
        nameServer = arguments[0];
        normal = arguments[1] + "-normal";
        delay = arguments[1] + "-delay";
        transaction = arguments[1] + "-transaction";
        DefaultMQProducer producer = new DefaultMQProducer(arguments[1]);
        producer.setNamesrvAddr(nameServer);
        // A loaded machine is slow.
        producer.setSendMsgTimeout(30_000);
        producer.start();
        check("send", () -> {
            SendResult sent = producer.send(new Message(normal, "tag", "key", bytes("hello")));
            expect(sent.getSendStatus() == SendStatus.SEND_OK && sent.getMsgId() != null, sent);
            // Compressed by the client.
            sent = producer.send(new Message(normal, new byte[100_000]));
            expect(sent.getSendStatus() == SendStatus.SEND_OK, sent);
        });
        check("batch", () -> {
            List<Message> messages = new ArrayList<>();
            for (int number = 0; number < 5; number++) {
                messages.add(new Message(normal, bytes("batch " + number)));
            }
            SendResult sent = producer.send(messages);
            expect(sent.getOffsetMsgId().split(",").length == 5, sent);
        });
        check("queue", () -> {
            long next = -1;
            for (int number = 0; number < 3; number++) {
                SendResult sent = producer.send(
                        new Message(normal, bytes("queue " + number)), (queues, message, argument) -> queues.get(2), null);
                expect(sent.getMessageQueue().getQueueId() == 2, sent);
                expect(next < 0 || sent.getQueueOffset() == next, sent);
                next = sent.getQueueOffset() + 1;
            }
        });
        check("one_way", () -> producer.sendOneway(new Message(normal, bytes("one way"))));
        check("delay", () -> {
            Message message = new Message(delay, bytes("delayed"));
            message.setDelayTimeLevel(2);
            SendResult sent = producer.send(message);
            expect(sent.getSendStatus() == SendStatus.SEND_OK, sent);
        });
        check("refusals", () -> {
            Message message = new Message(normal, bytes("delayed"));
            message.setDelayTimeLevel(2);
            try {
                throw new IllegalStateException("stored: " + producer.send(message));
            } catch (MQBrokerException refused) {
                expect(refused.getResponseCode() == 13, refused);
            }
        });
        producer.shutdown();
        transactions(arguments[1]);
        System.exit(0);
    }

    private static void transactions(String group) throws Exception {
        Set<String> asked = new HashSet<>();
        CountDownLatch answered = new CountDownLatch(1);
        TransactionMQProducer producer = new TransactionMQProducer(group + "-transactions");
        producer.setNamesrvAddr(nameServer);
        producer.setSendMsgTimeout(30_000);
        producer.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message message, Object decision) {
                return (LocalTransactionState) decision;
            }

            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt message) {
                asked.add(new String(message.getBody(), StandardCharsets.UTF_8));
                answered.countDown();
                return LocalTransactionState.COMMIT_MESSAGE;
            }
        });
        producer.start();
        check("transaction", () -> {
            for (LocalTransactionState decision : new LocalTransactionState[] {
                LocalTransactionState.COMMIT_MESSAGE, LocalTransactionState.ROLLBACK_MESSAGE
            }) {
                SendResult sent = producer.sendMessageInTransaction(new Message(transaction, bytes("decided")), decision);
                expect(sent.getSendStatus() == SendStatus.SEND_OK, sent);
            }
        });
        check("orphan_check", () -> {
            producer.sendMessageInTransaction(new Message(transaction, bytes("undecided")), LocalTransactionState.UNKNOW);
            expect(answered.await(120, TimeUnit.SECONDS), "nobody asked");
            expect(asked.equals(Set.of("undecided")), asked);
        });
        producer.shutdown();
    }
}
