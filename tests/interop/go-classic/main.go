// Apache's classic Go client, with the proxy as its name server: HOST:PORT NAME; prints "passed CHECK" per check.
package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
	"github.com/apache/rocketmq-client-go/v2/rlog"
)

const (
	count = 10
	// A loaded machine is slow.
	patience = 60 * time.Second
)

var (
	nameServer = primitive.NewPassthroughResolver([]string{os.Args[1]})
	name       = os.Args[2]
	all        = consumer.MessageSelector{Type: consumer.TAG, Expression: "*"}
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func expect(holds bool, format string, values ...any) {
	if !holds {
		panic(fmt.Sprintf(format, values...))
	}
}

func check(check string, run func()) {
	defer func() {
		if failure := recover(); failure != nil {
			fmt.Println("failed", check, failure)
		}
	}()
	run()
	fmt.Println("passed", check)
}

func main() {
	rlog.SetLogLevel("error")
	normal := name + "-normal"
	sender, err := rocketmq.NewProducer(producing(name+"-sender", nil)...)
	must(err)
	must(sender.Start())

	check("send", func() {
		sent, err := sender.SendSync(context.Background(), primitive.NewMessage(normal, []byte("hello")))
		must(err)
		expect(sent.Status == primitive.SendOK && sent.MsgID != "", "%v", sent)
		must(sender.SendOneWay(context.Background(), primitive.NewMessage(normal, []byte("one way"))))
		batch := []*primitive.Message{
			primitive.NewMessage(normal, []byte("first")), primitive.NewMessage(normal, []byte("second")),
		}
		sent, err = sender.SendSync(context.Background(), batch...)
		must(err)
		expect(sent.Status == primitive.SendOK, "%v", sent)
	})
	check("push", func() {
		seen := newSeen()
		stop := consume("push", normal, seen, nil, consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
		defer stop()
		seen.await("hello", "one way", "first", "second")
	})
	check("retry", func() {
		seen, refused := newSeen(), false
		stop := consume("retry", normal, seen, func(message *primitive.MessageExt) consumer.ConsumeResult {
			if string(message.Body) == "again" && !refused {
				refused = true
				return consumer.ConsumeRetryLater
			}
			return consumer.ConsumeSuccess
		}, consumer.WithConsumeGoroutineNums(1))
		defer stop()
		sendAll(sender, normal, "again")
		seen.await("again", "again")
	})
	check("in_order", func() {
		topic, seen := name+"-ordered", newSeen()
		stop := consume("ordered", topic, seen, nil, consumer.WithConsumerOrder(true),
			consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
		defer stop()
		ordered, err := rocketmq.NewProducer(producing(name+"-ordered", producer.WithQueueSelector(producer.NewManualQueueSelector()))...)
		must(err)
		must(ordered.Start())
		defer ordered.Shutdown()
		bodies := numbered("in order")
		for _, body := range bodies {
			message := primitive.NewMessage(topic, []byte(body))
			// What the selector takes for the queue; an earlier send tells the broker.
			sent, err := sender.SendSync(context.Background(), primitive.NewMessage(normal, []byte("where")))
			must(err)
			message.Queue = &primitive.MessageQueue{Topic: topic, BrokerName: sent.MessageQueue.BrokerName, QueueId: 1}
			_, err = ordered.SendSync(context.Background(), message)
			must(err)
		}
		seen.await(bodies...)
		expect(slices.Equal(seen.bodies, bodies), "%v", seen.bodies)
	})
	check("broadcast", func() {
		topic := name + "-broadcast"
		one, other := newSeen(), newSeen()
		for index, seen := range []*seen{one, other} {
			stop := consume(fmt.Sprint("broadcast-", index), topic, seen, nil, consumer.WithGroupName(name+"-broadcast"),
				consumer.WithConsumerModel(consumer.BroadCasting), consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
			defer stop()
		}
		sendAll(sender, topic, numbered("broadcast")...)
		one.await(numbered("broadcast")...)
		other.await(numbered("broadcast")...)
	})
	check("delay", func() {
		topic, seen := name+"-delay", newSeen()
		stop := consume("delay", topic, seen, nil, consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
		defer stop()
		message := primitive.NewMessage(topic, []byte("delayed"))
		message.WithDelayTimeLevel(1)
		begun := time.Now()
		_, err := sender.SendSync(context.Background(), message)
		must(err)
		seen.await("delayed")
		expect(time.Since(begun) >= time.Second, "after %v", time.Since(begun))
	})
	check("transaction", transactions)
	check("request_reply", func() {
		topic := name + "-request"
		replier, err := rocketmq.NewProducer(producing(name+"-replier", nil)...)
		must(err)
		must(replier.Start())
		defer replier.Shutdown()
		stop := consume("request", topic, newSeen(), func(message *primitive.MessageExt) consumer.ConsumeResult {
			reply, err := consumer.CreateReplyMessage(message, nil)
			if err == nil {
				// The client takes the body that it is given for properties.
				reply.Body = append([]byte("re: "), message.Body...)
				_, err = replier.SendSync(context.Background(), reply)
			}
			if err != nil {
				fmt.Println("replying:", err)
			}
			return consumer.ConsumeSuccess
		}, consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
		defer stop()
		answer, err := sender.Request(context.Background(), patience, primitive.NewMessage(topic, []byte("question")))
		must(err)
		expect(string(answer.Body) == "re: question", "%s", answer.Body)
	})
	// The client does not always end by itself.
	os.Exit(0)
}

func producing(group string, more producer.Option) []producer.Option {
	options := []producer.Option{
		producer.WithNsResolver(nameServer), producer.WithGroupName(group), producer.WithInstanceName(group),
		producer.WithSendMsgTimeout(patience),
	}
	if more != nil {
		options = append(options, more)
	}
	return options
}

func numbered(what string) []string {
	var bodies []string
	for number := range count {
		bodies = append(bodies, fmt.Sprint(what, " ", number))
	}
	return bodies
}

func sendAll(sender rocketmq.Producer, topic string, bodies ...string) {
	for _, body := range bodies {
		_, err := sender.SendSync(context.Background(), primitive.NewMessage(topic, []byte(body)))
		must(err)
	}
}

// Consumes a topic until the returned function is called.
func consume(
	instance, topic string, seen *seen, handle func(*primitive.MessageExt) consumer.ConsumeResult, more ...consumer.Option,
) func() {
	options := append([]consumer.Option{
		consumer.WithNsResolver(nameServer), consumer.WithGroupName(name + "-" + instance), consumer.WithInstance(name + "-" + instance),
	}, more...)
	push, err := rocketmq.NewPushConsumer(options...)
	must(err)
	must(push.Subscribe(topic, all, func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, message := range messages {
			seen.add(string(message.Body))
			if handle != nil {
				if result := handle(message); result != consumer.ConsumeSuccess {
					return result, nil
				}
			}
		}
		return consumer.ConsumeSuccess, nil
	}))
	must(push.Start())
	return func() { must(push.Shutdown()) }
}

type listener struct{ asked *seen }

func (*listener) ExecuteLocalTransaction(message *primitive.Message) primitive.LocalTransactionState {
	switch string(message.Body) {
	case "committed":
		return primitive.CommitMessageState
	case "rolled back":
		return primitive.RollbackMessageState
	}
	return primitive.UnkonwnState
}

func (listener *listener) CheckLocalTransaction(message *primitive.MessageExt) primitive.LocalTransactionState {
	listener.asked.add(string(message.Body))
	return primitive.CommitMessageState
}

func transactions() {
	topic, seen, asked := name+"-transaction", newSeen(), newSeen()
	stop := consume("transaction", topic, seen, nil, consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
	defer stop()
	sender, err := rocketmq.NewTransactionProducer(&listener{asked}, producing(name+"-transactions", nil)...)
	must(err)
	must(sender.Start())
	for _, body := range []string{"committed", "rolled back", "undecided"} {
		_, err := sender.SendMessageInTransaction(context.Background(), primitive.NewMessage(topic, []byte(body)))
		must(err)
	}
	asked.await("undecided")
	seen.await("committed", "undecided")
	must(sender.Shutdown())
}

// Bodies of messages that have come.
type seen struct {
	lock   sync.Mutex
	bodies []string
	came   chan struct{}
}

func newSeen() *seen { return &seen{came: make(chan struct{}, 1000)} }

func (seen *seen) add(body string) {
	seen.lock.Lock()
	seen.bodies = append(seen.bodies, body)
	seen.lock.Unlock()
	seen.came <- struct{}{}
}

// Waits until all of these have come, each as often as it is named.
func (seen *seen) await(bodies ...string) {
	limit := time.After(2 * patience)
	for {
		seen.lock.Lock()
		rest := slices.Clone(bodies)
		for _, body := range seen.bodies {
			if at := slices.Index(rest, body); at >= 0 {
				rest = slices.Delete(rest, at, at+1)
			}
		}
		seen.lock.Unlock()
		if len(rest) == 0 {
			return
		}
		select {
		case <-seen.came:
		case <-limit:
			panic(fmt.Sprintf("%v did not come", rest))
		}
	}
}
