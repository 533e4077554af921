// Publishes a message with a key, reads it back over a subscription, and does the work of a consumer with an ack.
//
//	./generate.sh && go run . 127.0.0.1:7101
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	pb "liminal.example/first/liminalv1"
)

const channel = "go-orders"

func main() {
	address := "127.0.0.1:7101"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	if err := run(address); err != nil {
		log.Fatal(err)
	}
}

func run(address string) error {
	connection, err := grpc.Dial(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// gRPC does not know which calls are safe to repeat, so it repeats none.
		grpc.WithDisableRetry(),
		// A frozen node keeps its connections open: pings find it out.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 2 * time.Second}),
		// A delivery may hold a whole log entry.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	// To create what is there already is no error.
	if _, err := pb.NewChannelsClient(connection).CreateChannel(ctx, &pb.CreateChannelRequest{Name: channel}); err != nil {
		return err
	}
	broker := pb.NewBrokerClient(connection)
	published, err := publish(ctx, broker, "order-7", []byte(`{"id":7}`))
	if err != nil {
		return err
	}
	fmt.Printf("published %s@%d duplicate=%t\n", channel, published.Seq, published.Duplicate)
	if err := follow(ctx, broker); err != nil {
		return err
	}
	return consume(ctx, pb.NewConsumersClient(connection))
}

// publish sends the message until it knows the outcome. The key makes that safe.
func publish(ctx context.Context, broker pb.BrokerClient, key string, payload []byte) (*pb.PublishResponse, error) {
	request := &pb.PublishRequest{Channel: channel, Message: &pb.Message{Payload: payload, Key: &key}}
	for pause := 20 * time.Millisecond; ; pause *= 2 {
		// Each attempt has a time limit of its own.
		attempt, cancel := context.WithTimeout(ctx, 10*time.Second)
		answer, err := broker.Publish(attempt, request)
		cancel()
		if err == nil || !worthRepeating(err) {
			return answer, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the outcome is unknown: %w", err)
		case <-time.After(pause):
		}
	}
}

// worthRepeating says whether the same publish with the same key may succeed later.
func worthRepeating(err error) bool {
	answer := status.Convert(err)
	for _, detail := range answer.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			switch info.Reason {
			case "OVERLOADED", "QUOTA_EXCEEDED", "NO_LEADER", "STOPPING", "STALE_SCHEMA":
				return true
			}
			return info.Metadata["outcome_unknown"] == "true"
		}
	}
	// No node has answered.
	return answer.Code() == codes.Unavailable || answer.Code() == codes.DeadlineExceeded
}

// follow prints the first message of the channel.
func follow(ctx context.Context, broker pb.BrokerClient) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	start := &pb.Start{From: &pb.Start_Earliest{Earliest: true}}
	stream, err := broker.Subscribe(ctx, &pb.SubscribeRequest{Channel: channel, Start: start})
	if err != nil {
		return err
	}
	for {
		delivery, err := stream.Recv()
		if err != nil {
			return err
		}
		// The first delivery has no messages: it says where the subscription begins.
		for number, message := range delivery.GetBatch().GetMessages() {
			seq := delivery.FirstSeq + uint64(number)
			// Keep delivery.Next: the next subscription begins there.
			fmt.Printf("received %s@%d %s\n", channel, seq, message.Payload)
			return nil
		}
	}
}

// consume takes one message of a consumer, works on it, and acknowledges it.
func consume(ctx context.Context, consumers pb.ConsumersClient) error {
	const name = "billing"
	config := &pb.ConsumerConfig{MaxAttempts: 5}
	_, err := consumers.CreateConsumer(ctx, &pb.CreateConsumerRequest{Channel: channel, Name: name, Config: config})
	if err != nil {
		return err
	}
	pulled, err := consumers.Pull(ctx, &pb.PullRequest{Channel: channel, Consumer: name, Max: 1, WaitMs: 1000})
	if err != nil {
		return err
	}
	for _, delivery := range pulled.Deliveries {
		fmt.Printf("working on %s@%d, attempt %d\n", channel, delivery.Seq, delivery.Attempt)
		ack := &pb.Settlement{Token: delivery.Token, Verdict: pb.Verdict_VERDICT_ACK}
		settled, err := consumers.Settle(ctx, &pb.SettleRequest{
			Channel: channel, Consumer: name, Settlements: []*pb.Settlement{ack},
		})
		if err != nil {
			return err
		}
		for _, result := range settled.Results {
			if result.Error != nil {
				// STALE_DELIVERY: it took too long, and somebody else has the message now.
				return errors.New(result.Error.Message)
			}
		}
		fmt.Println("acknowledged")
	}
	return nil
}
