import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.util.Iterator;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import liminal.v1.BrokerGrpc;
import liminal.v1.BrokerOuterClass.CreateChannelRequest;
import liminal.v1.BrokerOuterClass.Delivery;
import liminal.v1.BrokerOuterClass.Message;
import liminal.v1.BrokerOuterClass.PublishRequest;
import liminal.v1.BrokerOuterClass.PublishResponse;
import liminal.v1.BrokerOuterClass.Start;
import liminal.v1.BrokerOuterClass.SubscribeRequest;
import liminal.v1.ChannelsGrpc;
import liminal.v1.ConsumersGrpc;
import liminal.v1.ConsumersOuterClass.ConsumerConfig;
import liminal.v1.ConsumersOuterClass.ConsumerDelivery;
import liminal.v1.ConsumersOuterClass.CreateConsumerRequest;
import liminal.v1.ConsumersOuterClass.PullRequest;
import liminal.v1.ConsumersOuterClass.SettleRequest;
import liminal.v1.ConsumersOuterClass.SettleResult;
import liminal.v1.ConsumersOuterClass.Settlement;
import liminal.v1.ConsumersOuterClass.Verdict;

/** Publishes a message with a key, reads it back over a subscription, and does the work of a consumer with an ack. */
public final class First {
    private static final String CHANNEL = "java-orders";
    private static final String CONSUMER = "billing";
    private static final Metadata.Key<String> CODE =
            Metadata.Key.of("liminal-code", Metadata.ASCII_STRING_MARSHALLER);
    /** Nothing was stored, and the same publish may succeed later. The key makes the repetition safe in any case. */
    private static final Set<String> TRY_AGAIN =
            Set.of("OVERLOADED", "QUOTA_EXCEEDED", "NO_LEADER", "STOPPING", "STALE_SCHEMA", "OUTCOME_UNKNOWN");

    public static void main(String[] arguments) throws InterruptedException {
        String address = arguments.length > 0 ? arguments[0] : "127.0.0.1:7101";
        ManagedChannel connection = ManagedChannelBuilder.forTarget(address)
                .usePlaintext()
                // gRPC does not know which calls are safe to repeat, so it repeats none.
                .disableRetry()
                // A frozen node keeps its connections open: pings find it out.
                .keepAliveTime(10, TimeUnit.SECONDS)
                .keepAliveTimeout(2, TimeUnit.SECONDS)
                // A delivery may hold a whole log entry.
                .maxInboundMessageSize(64 << 20)
                .build();
        try {
            // To create what is there already is no error.
            ChannelsGrpc.newBlockingStub(connection)
                    .withDeadlineAfter(10, TimeUnit.SECONDS)
                    .createChannel(CreateChannelRequest.newBuilder().setName(CHANNEL).build());
            PublishResponse published = publish(connection, "order-7", "{\"id\":7}");
            System.out.printf(
                    "published %s@%d duplicate=%b%n", CHANNEL, published.getSeq(), published.getDuplicate());
            follow(connection);
            consume(connection);
        } finally {
            connection.shutdownNow();
        }
    }

    /** Sends the message until its outcome is known, for half a minute. */
    private static PublishResponse publish(ManagedChannel connection, String key, String payload)
            throws InterruptedException {
        Message message = Message.newBuilder()
                .setPayload(com.google.protobuf.ByteString.copyFromUtf8(payload))
                .setKey(key)
                .build();
        PublishRequest request =
                PublishRequest.newBuilder().setChannel(CHANNEL).setMessage(message).build();
        long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
        for (long pause = 20; ; pause = Math.min(2 * pause, 1000)) {
            try {
                // Each attempt has a time limit of its own.
                return BrokerGrpc.newBlockingStub(connection)
                        .withDeadlineAfter(10, TimeUnit.SECONDS)
                        .publish(request);
            } catch (StatusRuntimeException error) {
                Metadata trailers = error.getTrailers();
                String code = trailers == null ? null : trailers.get(CODE);
                // Without a code no node has answered.
                boolean silent = code == null
                        && Set.of(Status.Code.UNAVAILABLE, Status.Code.DEADLINE_EXCEEDED)
                                .contains(error.getStatus().getCode());
                boolean again = silent || (code != null && TRY_AGAIN.contains(code));
                if (!again || System.nanoTime() > until) {
                    throw error;
                }
                Thread.sleep(pause);
            }
        }
    }

    /** Prints the first message of the channel. */
    private static void follow(ManagedChannel connection) {
        SubscribeRequest request = SubscribeRequest.newBuilder()
                .setChannel(CHANNEL)
                .setStart(Start.newBuilder().setEarliest(true))
                .build();
        Iterator<Delivery> deliveries = BrokerGrpc.newBlockingStub(connection)
                .withDeadlineAfter(30, TimeUnit.SECONDS)
                .subscribe(request);
        while (deliveries.hasNext()) {
            Delivery delivery = deliveries.next();
            // The first delivery has no messages: it says where the subscription begins.
            if (delivery.getCount() > 0) {
                // Keep delivery.getNext(): the next subscription begins there.
                Message first = delivery.getBatch().getMessages(0);
                System.out.printf(
                        "received %s@%d %s%n",
                        CHANNEL, delivery.getFirstSeq(), first.getPayload().toStringUtf8());
                return;
            }
        }
    }

    /** Takes one message of a consumer, works on it, and acknowledges it. */
    private static void consume(ManagedChannel connection) {
        ConsumersGrpc.ConsumersBlockingStub consumers =
                ConsumersGrpc.newBlockingStub(connection).withDeadlineAfter(10, TimeUnit.SECONDS);
        consumers.createConsumer(CreateConsumerRequest.newBuilder()
                .setChannel(CHANNEL)
                .setName(CONSUMER)
                .setConfig(ConsumerConfig.newBuilder().setMaxAttempts(5))
                .build());
        PullRequest pull = PullRequest.newBuilder()
                .setChannel(CHANNEL)
                .setConsumer(CONSUMER)
                .setMax(1)
                .setWaitMs(1000)
                .build();
        for (ConsumerDelivery delivery : consumers.pull(pull).getDeliveriesList()) {
            System.out.printf(
                    "working on %s@%d, attempt %d%n", CHANNEL, delivery.getSeq(), delivery.getAttempt());
            SettleRequest ack = SettleRequest.newBuilder()
                    .setChannel(CHANNEL)
                    .setConsumer(CONSUMER)
                    .addSettlements(Settlement.newBuilder()
                            .setToken(delivery.getToken())
                            .setVerdict(Verdict.VERDICT_ACK))
                    .build();
            SettleResult result = consumers.settle(ack).getResults(0);
            if (result.hasError()) {
                // STALE_DELIVERY: it took too long, and somebody else has the message now.
                throw new IllegalStateException(result.getError().getMessage());
            }
            System.out.println("acknowledged");
        }
    }
}
