// The load on a NATS server: a stream with every message on the disk, and a consumer of it.
//
//	client URL publish IN_FLIGHT COUNT
//	client URL rate PER_SECOND SECONDS
//	client URL consume BATCH COUNT
//
// Publishing prints the 50th and 99th percentile of the times until the answers, in microseconds.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const name = "bench"
const consumers = 16

var body = make([]byte, 1024)

func main() {
	ctx := context.Background()
	url, workload, first, second := os.Args[1], os.Args[2], number(os.Args[3]), number(os.Args[4])
	connection := must(nats.Connect(url))
	js := must(jetstream.New(connection))
	stream := must(js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: name, Subjects: []string{name}, Storage: jetstream.FileStorage,
	}))
	switch workload {
	case "publish":
		report(publish(ctx, js, first, second))
	case "rate":
		report(rate(ctx, js, first, second))
	case "consume":
		consume(ctx, stream, first, int64(second))
		check(connection.Flush())
		fmt.Println("0 0")
	default:
		log.Fatalf("no workload %s", workload)
	}
}

func publish(ctx context.Context, js jetstream.JetStream, inFlight int, count int) []time.Duration {
	times := make([]time.Duration, count/inFlight*inFlight)
	each := count / inFlight
	together(inFlight, func(n int) {
		for i := range each {
			begin := time.Now()
			must(js.Publish(ctx, name, body))
			times[n*each+i] = time.Since(begin)
		}
	})
	return times
}

// The times count from the moment at which a message was due.
func rate(ctx context.Context, js jetstream.JetStream, perSecond int, seconds int) []time.Duration {
	times := make([]time.Duration, perSecond*seconds)
	step := time.Second / time.Duration(perSecond)
	begin := time.Now().Add(10 * time.Millisecond)
	var sent sync.WaitGroup
	for n := range times {
		due := begin.Add(step * time.Duration(n))
		time.Sleep(time.Until(due))
		sent.Go(func() {
			must(js.Publish(ctx, name, body))
			times[n] = time.Since(due)
		})
	}
	sent.Wait()
	return times
}

// As is usual with NATS, acknowledgements are not answered.
func consume(ctx context.Context, stream jetstream.Stream, batch int, count int64) {
	consumer := must(stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: name, AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: -1,
	}))
	var left atomic.Int64
	left.Store(count)
	together(consumers, func(int) {
		for left.Load() > 0 {
			messages := must(consumer.Fetch(batch, jetstream.FetchMaxWait(5*time.Second)))
			for message := range messages.Messages() {
				check(message.Ack())
				left.Add(-1)
			}
		}
	})
}

func together(count int, work func(n int)) {
	var group sync.WaitGroup
	for n := range count {
		group.Go(func() { work(n) })
	}
	group.Wait()
}

func report(times []time.Duration) {
	slices.Sort(times)
	at := func(share float64) int64 { return times[int(float64(len(times)-1)*share)].Microseconds() }
	fmt.Println(at(0.5), at(0.99))
}

func number(text string) int {
	return must(strconv.Atoi(text))
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
