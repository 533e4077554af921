//! `liminal reply`: answer one request, or all requests of a channel by a command that gets each on its standard input.

use std::{process::Stdio, time::SystemTime};

use futures::{StreamExt as _, stream::BoxStream};
use tokio::{io::AsyncWriteExt as _, process::Command as Process};

use super::{
    CliError, Global, OutputFormat,
    remote::{connect, print_json, print_line, thousands},
    request::body,
    serve::Signals,
    subscribe::From,
};
use crate::client::{Client, ClientError, Code, Delivery, Message, Nack, Received, Start};

/// The most of what a failed command wrote that is told.
const TOLD: usize = 200;

/// Answer a request, or all requests of a channel by a command
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The request's header `liminal-reply-to`; with --exec the channel whose requests are answered
    #[arg(value_name = "INBOX|CHANNEL")]
    pub to: String,
    /// The reply; `-` reads it from standard input
    #[arg(required_unless_present = "exec", conflicts_with = "exec")]
    pub body: Option<String>,
    /// Run this command by `sh -c` for each request: it gets the payload on its standard input, and what it writes on its
    /// standard output is the reply. The variables MESSAGE_CHANNEL, MESSAGE_SEQ and MESSAGE_KEY say which request it is.
    /// Without exit code 0 there is no reply
    #[arg(long, value_name = "CMD")]
    pub exec: Option<String>,
    /// Take requests as a member of this consumer, which has to exist: they wait while nobody answers, its members share them,
    /// and one whose command fails comes again
    #[arg(long, value_name = "NAME", requires = "exec")]
    pub consumer: Option<String>,
    /// Where to begin without a consumer, as `subscribe --from` takes it
    #[arg(long, requires = "exec", conflicts_with = "consumer", default_value = "latest")]
    pub from: From,
    /// End after so many requests
    #[arg(long, value_name = "N", requires = "exec")]
    pub count: Option<u64>,
}

/// A request, and how it is settled where a consumer handed it out.
struct Request {
    received: Received,
    delivery: Option<Delivery>,
}

/// What has become of requests.
#[derive(Default)]
struct Done {
    answered: u64,
    failed: u64,
}

/// Runs the command.
pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let client = connect(global).await;
    if let Some(command) = &args.exec {
        return serve(&client?, &args, command, global).await;
    }
    let message = Message::new(body(args.body.as_deref().unwrap_or_default()).await?);
    Ok(client?.reply_to(&args.to, message).await?)
}

async fn serve(client: &Client, args: &Args, command: &str, global: &Global) -> Result<(), CliError> {
    let mut signals = Signals::new()?;
    let mut requests = requests(client, args).await?;
    let (mut done, mut left) = (Done::default(), args.count.unwrap_or(u64::MAX));
    while left > 0 {
        let request = tokio::select! {
            biased;
            () = signals.next() => break,
            request = requests.next() => match request {
                Some(request) => request?,
                None => break,
            },
        };
        let Some(inbox) = request.received.reply_to().map(str::to_owned) else {
            eprintln!("{}@{} is no request: it is passed over", args.to, request.received.seq);
            settle(&request, Ok(())).await?;
            continue;
        };
        left -= 1;
        let answered = answer(client, args, command, &request.received, &inbox).await;
        match &answered {
            Ok(()) => done.answered += 1,
            Err(why) => {
                done.failed += 1;
                eprintln!("{}@{}: {why}", args.to, request.received.seq);
            }
        }
        settle(&request, answered).await?;
    }
    match global.output {
        OutputFormat::Json => print_json(&serde_json::json!({ "answered": done.answered, "failed": done.failed })),
        OutputFormat::Raw => Ok(()),
        OutputFormat::Table => {
            let [answered, failed] = [done.answered, done.failed].map(thousands);
            print_line(&format!("{answered} request(s) answered, {failed} failed"))
        }
    }
}

/// The requests of the channel as they come.
async fn requests(client: &Client, args: &Args) -> Result<BoxStream<'static, Result<Request, ClientError>>, CliError> {
    if let Some(consumer) = &args.consumer {
        // One at a time: what another member could answer does not wait here.
        let deliveries = client.consumer(&args.to, consumer).credit(1).open().await?;
        let each = deliveries.map(|delivery| {
            delivery.map(|delivery| Request { received: delivery.received.clone(), delivery: Some(delivery) })
        });
        return Ok(each.boxed());
    }
    let start: Start = args.from.start(SystemTime::now());
    let messages = client.subscribe(&args.to, start).await?;
    let batches = futures::stream::unfold(messages, |mut messages| async move {
        let batch = messages.next_batch().await?;
        Some((batch, messages))
    });
    let each = batches.flat_map(|batch| {
        let requests: Vec<Result<Request, ClientError>> = match batch {
            Ok(batch) => batch.into_iter().map(|received| Ok(Request { received, delivery: None })).collect(),
            // Requests that are gone cannot be answered; those that come can.
            Err(error) if error.notice().is_some() => Vec::new(),
            Err(error) => vec![Err(error)],
        };
        futures::stream::iter(requests)
    });
    Ok(each.boxed())
}

/// Runs the command for one request, and sends what it wrote.
async fn answer(client: &Client, args: &Args, command: &str, request: &Received, inbox: &str) -> Result<(), String> {
    let reply = output(&args.to, command, request).await?;
    match client.reply_to(inbox, Message::new(reply)).await {
        Ok(()) => Ok(()),
        // Whoever asked has given up: to do it again would help nobody.
        Err(error) if *error.code() == Code::InboxGone => {
            eprintln!("{}@{}: {}", args.to, request.seq, error.message());
            Ok(())
        }
        Err(error) => Err(error.message().to_owned()),
    }
}

/// What the command writes for one request.
async fn output(channel: &str, command: &str, request: &Received) -> Result<Vec<u8>, String> {
    let mut process = Process::new("sh");
    process.args(["-c", command]).env("MESSAGE_CHANNEL", channel).env("MESSAGE_SEQ", request.seq.to_string());
    process.env("MESSAGE_KEY", request.message.key());
    process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = process.spawn().map_err(|error| format!("the command cannot be started: {error}"))?;
    let input = child.stdin.take();
    let payload = request.message.payload.clone();
    // Both at once: a command may write before it has read everything, and may not read at all.
    let feed = async {
        if let Some(mut input) = input {
            let _ = input.write_all(&payload).await; // it has closed its input, which is its right
        }
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), feed);
    let output = output.map_err(|error| format!("the command cannot be waited for: {error}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(TOLD).collect();
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    Err(format!("the command ended with {}{said}", output.status))
}

/// Acknowledges a request that was handed out, or gives it back.
async fn settle(request: &Request, answered: Result<(), String>) -> Result<(), CliError> {
    let Some(delivery) = &request.delivery else { return Ok(()) };
    let settled = match answered {
        Ok(()) => delivery.ack(),
        Err(why) => delivery.nack(Nack::now().because(why)),
    };
    match settled.await {
        // It took longer than the consumer's ack timeout, and somebody else has it now.
        Err(error) if *error.code() == Code::StaleDelivery => {
            eprintln!("{}@{}: {}", delivery.consumer().0, request.received.seq, error.message());
            Ok(())
        }
        settled => Ok(settled?),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    async fn run(command: &str, payload: &str) -> Result<String, String> {
        let message = Message::new(payload.to_owned()).with_key("k");
        let request = Received::new(7, SystemTime::UNIX_EPOCH, 0, message);
        output("sums", command, &request).await.map(|output| String::from_utf8(output).unwrap())
    }

    #[tokio::test]
    async fn a_command_gets_the_payload_and_its_output_is_the_reply() {
        assert_eq!(run("tr a-z A-Z", "abc").await.unwrap(), "ABC");
        let named = run("printf '%s %s %s' $MESSAGE_CHANNEL $MESSAGE_SEQ $MESSAGE_KEY", "").await;
        assert_eq!(named.unwrap(), "sums 7 k");
        assert_eq!(run("echo done", &"x".repeat(1 << 20)).await.unwrap(), "done\n", "it need not read");
    }

    #[tokio::test]
    async fn a_command_that_fails_gives_no_reply_and_says_why() {
        let why = run("echo no sum >&2; exit 3", "abc").await.unwrap_err();
        assert!(why.contains('3') && why.ends_with(": no sum"), "{why}");
    }
}
