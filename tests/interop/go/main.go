// Apache's Go client against a proxy: ENDPOINT TOPIC GROUP tls|plaintext; prints "passed CHECK" per check.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"slices"
	"strings"
	"time"

	rocketmq "github.com/apache/rocketmq-clients/golang/v5"
	"github.com/apache/rocketmq-clients/golang/v5/credentials"
)

const count = 5

func passed(check string) {
	fmt.Println("passed", check)
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func expect(holds bool, format string, values ...any) {
	if !holds {
		log.Fatalf(format, values...)
	}
}

func main() {
	endpoint, topic, group := os.Args[1], os.Args[2], os.Args[3]
	rocketmq.EnableSsl = os.Args[4] == "tls"
	config := func(group string) *rocketmq.Config {
		return &rocketmq.Config{Endpoint: endpoint, ConsumerGroup: group, Credentials: &credentials.SessionCredentials{}}
	}
	all := map[string]*rocketmq.FilterExpression{topic: rocketmq.SUB_ALL}

	producer, err := rocketmq.NewProducer(config(""), rocketmq.WithTopics(topic))
	must(err)
	must(producer.Start())
	sent := send(producer, topic)
	passed("send")

	consumer, err := rocketmq.NewSimpleConsumer(config(group),
		rocketmq.WithSimpleAwaitDuration(5*time.Second), rocketmq.WithSimpleSubscriptionExpressions(all))
	must(err)
	must(consumer.Start())
	receiveAndAck(consumer, sent)
	must(consumer.GracefulStop())

	push(config(group+"-push"), all)
	must(producer.GracefulStop())
}

func send(producer rocketmq.Producer, topic string) map[string]bool {
	ids := map[string]bool{}
	for n := range count {
		message := &rocketmq.Message{Topic: topic, Body: fmt.Appendf(nil, "hello %d", n)}
		message.SetTag("new")
		message.SetKeys("k1", "k2")
		message.AddProperty("region", "eu")
		receipts, err := producer.Send(context.Background(), message)
		must(err)
		ids[receipts[0].MessageID] = true
	}
	return ids
}

// This client reports an empty long poll as an error with a code of its own.
func receive(consumer rocketmq.SimpleConsumer, invisible time.Duration) []*rocketmq.MessageView {
	messages, err := consumer.Receive(context.Background(), 16, invisible)
	if status, ok := rocketmq.AsErrRpcStatus(err); ok && status.GetCode() == 40401 {
		return nil
	}
	must(err)
	return messages
}

func receiveAndAck(consumer rocketmq.SimpleConsumer, sent map[string]bool) {
	var received []*rocketmq.MessageView
	for len(received) < count {
		for _, message := range receive(consumer, 30*time.Second) {
			expect(sent[message.GetMessageId()], "a message that was not sent: %s", message.GetMessageId())
			expect(strings.HasPrefix(string(message.GetBody()), "hello "), "another body: %s", message.GetBody())
			expect(message.GetTag() != nil && *message.GetTag() == "new", "another tag: %v", message.GetTag())
			expect(slices.Equal(message.GetKeys(), []string{"k1", "k2"}), "other keys: %v", message.GetKeys())
			expect(message.GetProperties()["region"] == "eu", "other properties: %v", message.GetProperties())
			expect(message.GetDeliveryAttempt() == 1, "attempt %d", message.GetDeliveryAttempt())
			received = append(received, message)
		}
	}
	passed("receive")

	must(consumer.ChangeInvisibleDuration(received[0], 10*time.Second))
	passed("change_invisible")

	for _, message := range received {
		must(consumer.Ack(context.Background(), message))
	}
	// Three long polls are longer than the shortest lease.
	for range 3 {
		left := receive(consumer, 10*time.Second)
		expect(len(left) == 0, "received again after the ack: %v", left)
	}
	passed("ack")
}

func push(config *rocketmq.Config, all map[string]*rocketmq.FilterExpression) {
	pushed := make(chan string, 100)
	listener := &rocketmq.FuncMessageListener{Consume: func(message *rocketmq.MessageView) rocketmq.ConsumerResult {
		pushed <- message.GetMessageId()
		return rocketmq.SUCCESS
	}}
	consumer, err := rocketmq.NewPushConsumer(config, rocketmq.WithPushAwaitDuration(5*time.Second),
		rocketmq.WithPushSubscriptionExpressions(all), rocketmq.WithPushMessageListener(listener))
	must(err)
	must(consumer.Start())
	seen := map[string]bool{}
	hang := time.After(time.Minute)
	for len(seen) < count {
		select {
		case id := <-pushed:
			seen[id] = true
		case <-hang:
			log.Fatalf("%d of %d messages were pushed", len(seen), count)
		}
	}
	passed("push")
	must(consumer.GracefulStop())
}
