// Publishes a message with a key, reads it back over a subscription, and does the work of a consumer with an ack.
//
//   npm install && npm start 127.0.0.1:7101
import { fileURLToPath } from "node:url";
import * as grpc from "@grpc/grpc-js";
import * as loader from "@grpc/proto-loader";

const channel = "ts-orders";
const consumer = "billing";
const address = process.argv[2] ?? "127.0.0.1:7101";

// What is used of proto/liminal/v1. Numbers of 64 bits come as texts: a double would round large ones.
interface Message { payload: Buffer; key?: string }
interface Delivery { first_seq: string; batch?: { messages: Message[] }; next?: unknown }
interface Published { seq: string; duplicate: boolean }
interface ConsumerDelivery { token: string; seq: string; attempt: number; message: Message }
interface SettleResult { error?: { code: string; message: string } }

const options: loader.Options = {
  includeDirs: [fileURLToPath(new URL("../../../proto", import.meta.url))],
  keepCase: true,
  defaults: true,
  longs: String,
  enums: String,
};
const definition = loader.loadSync(["liminal/v1/broker.proto", "liminal/v1/consumers.proto"], options);
const liminal = (grpc.loadPackageDefinition(definition) as any).liminal.v1;

const settings: grpc.ClientOptions = {
  // gRPC does not know which calls are safe to repeat, so it repeats none.
  "grpc.enable_retries": 0,
  // A frozen node keeps its connections open: pings find it out.
  "grpc.keepalive_time_ms": 10_000,
  "grpc.keepalive_timeout_ms": 2_000,
  // A delivery may hold a whole log entry.
  "grpc.max_receive_message_length": 64 << 20,
};
const connect = (service: string) => new liminal[service](address, grpc.credentials.createInsecure(), settings);
const broker = connect("Broker");
const channels = connect("Channels");
const consumers = connect("Consumers");

/** One call with one answer, in ten seconds at most. */
function call<T>(service: any, method: string, request: object): Promise<T> {
  return new Promise((resolve, reject) => {
    const answer = (error: grpc.ServiceError | null, value: T) => (error ? reject(error) : resolve(value));
    service[method](request, { deadline: Date.now() + 10_000 }, answer);
  });
}

// Nothing was stored, or nobody knows. The key makes it safe to publish again.
const again = ["OVERLOADED", "QUOTA_EXCEEDED", "NO_LEADER", "STOPPING", "STALE_SCHEMA", "OUTCOME_UNKNOWN"];

/** Whether the same publish with the same key may succeed later. */
function isWorthRepeating(error: grpc.ServiceError): boolean {
  const code = error.metadata?.get("liminal-code")[0]?.toString();
  if (code !== undefined) return again.includes(code);
  // No node has answered.
  return error.code === grpc.status.UNAVAILABLE || error.code === grpc.status.DEADLINE_EXCEEDED;
}

/** Sends the message until its outcome is known, for half a minute. */
async function publish(key: string, payload: string): Promise<Published> {
  const until = Date.now() + 30_000;
  for (let pause = 20; ; pause = Math.min(2 * pause, 1000)) {
    try {
      return await call(broker, "Publish", { channel, message: { payload: Buffer.from(payload), key } });
    } catch (error) {
      if (!isWorthRepeating(error as grpc.ServiceError) || Date.now() > until) throw error;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}

/** Prints the first message of the channel. */
async function follow(): Promise<void> {
  const stream = broker.Subscribe({ channel, start: { earliest: true } });
  try {
    for await (const delivery of stream as AsyncIterable<Delivery>) {
      // The first delivery has no messages: it says where the subscription begins.
      const message = delivery.batch?.messages[0];
      if (message) {
        // Keep delivery.next: the next subscription begins there.
        console.log(`received ${channel}@${delivery.first_seq} ${message.payload}`);
        return;
      }
    }
  } finally {
    // The error that a cancelled stream ends with tells nothing new.
    stream.on("error", () => {});
    stream.cancel();
  }
}

/** Takes one message of a consumer, works on it, and acknowledges it. */
async function consume(): Promise<void> {
  await call(consumers, "CreateConsumer", { channel, name: consumer, config: { max_attempts: 5 } });
  const pull = { channel, consumer, max: 1, wait_ms: 1000 };
  const { deliveries = [] } = await call<{ deliveries?: ConsumerDelivery[] }>(consumers, "Pull", pull);
  for (const { token, seq, attempt } of deliveries) {
    console.log(`working on ${channel}@${seq}, attempt ${attempt}`);
    const settlements = [{ token, verdict: "VERDICT_ACK" }];
    const settle = { channel, consumer, settlements };
    const { results = [] } = await call<{ results?: SettleResult[] }>(consumers, "Settle", settle);
    // STALE_DELIVERY: it took too long, and somebody else has the message now.
    if (results[0]?.error) throw new Error(results[0].error.message);
    console.log("acknowledged");
  }
}

// To create what is there already is no error.
await call(channels, "CreateChannel", { name: channel });
const published = await publish("order-7", '{"id":7}');
console.log(`published ${channel}@${published.seq} duplicate=${published.duplicate}`);
await follow();
await consume();
