//! `liminal dev`: a whole cluster in one process, with the commands to try it.

use std::{path::PathBuf, time::Duration};

use super::{
    CliError,
    remote::print_line,
    serve::{Signals, start},
};
use crate::{
    broker::{Consistency, Envelope, Start},
    config::{ClusterConfig, ServerConfig},
    model::ChannelConfig,
    node::Node,
};

/// Nodes of one process that are still useful to try things with.
const MAX_NODES: u16 = 9;
/// How long the cluster may take to find its leader.
const FORM_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause between two messages of the demonstration.
const DEMO_PAUSE: Duration = Duration::from_millis(500);

/// What `dev` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How many nodes
    #[arg(long, default_value_t = 3)]
    nodes: u16,
    /// Where the nodes keep their state; a temporary directory where it is not given
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Node n listens on this + n for clients, + 100 + n for HTTP and + 200 + n for the other nodes
    #[arg(long, default_value_t = 7100)]
    base_port: u16,
    /// Publish a few messages, show them arriving on another node, and stop
    #[arg(long)]
    demo: bool,
}

pub(super) async fn run(args: Args) -> Result<(), CliError> {
    if args.nodes == 0 || args.nodes > MAX_NODES {
        return Err(CliError::usage(format!("--nodes {}: from 1 to {MAX_NODES} nodes", args.nodes)));
    }
    if args.base_port > u16::MAX - 300 {
        return Err(CliError::usage(format!("--base-port {}: at most {}", args.base_port, u16::MAX - 300)));
    }
    let mut signals = Signals::new()?;
    let mut nodes = Vec::new();
    for number in 1..=args.nodes {
        nodes.push(start(config(&args, number)).await?);
    }
    let first = nodes.first().ok_or_else(|| CliError::failed("no nodes".into()))?;
    let formed = tokio::time::timeout(FORM_TIMEOUT, first.broker().channels()).await;
    if !matches!(formed, Ok(Ok(_))) {
        return Err(CliError::failed(
            "the nodes did not form a cluster in time; look at the log with RUST_LOG=info".into(),
        ));
    }
    print_line(&format!("{} node(s) are ready", args.nodes))?;
    for node in &nodes {
        let (name, client, http) = (node.broker().local().name, node.client_address(), node.http_address());
        print_line(&format!("  {name}  clients http://{client}  http://{http}/ready"))?;
    }
    let done = if args.demo { demo(&nodes).await } else { instructions(&args, &nodes) };
    if !args.demo && done.is_ok() {
        signals.next().await;
    }
    futures::future::join_all(nodes.into_iter().map(Node::stop)).await;
    done
}

fn config(args: &Args, number: u16) -> ServerConfig {
    let address = |offset: u16, number: u16| format!("127.0.0.1:{}", args.base_port + offset + number);
    ServerConfig {
        listen_address: address(0, number),
        health_listen_address: address(100, number),
        drain_timeout: Duration::from_secs(2),
        persistence_path: args.data_dir.as_ref().map(|dir| dir.join(format!("n{number}"))),
        cluster: Some(ClusterConfig {
            node_name: format!("n{number}"),
            listen_address: address(200, number),
            seed_nodes: (1..=args.nodes).map(|number| address(200, number)).collect(),
            cookie: "dev".into(),
            expect: usize::from(args.nodes),
            ..ClusterConfig::default()
        }),
        ..ServerConfig::default()
    }
}

fn instructions(args: &Args, nodes: &[Node]) -> Result<(), CliError> {
    let servers: Vec<String> = nodes.iter().map(|node| format!("http://{}", node.client_address())).collect();
    print_line("\nIn another terminal:\n")?;
    if args.base_port != 7100 {
        print_line(&format!("  export LIMINAL_SERVER={}", servers.join(",")))?;
    }
    for line in [
        "liminal channel create orders",
        "liminal subscribe orders --from earliest",
        "liminal publish orders '{\"id\":7}' --key order-7",
        "liminal cluster status",
    ] {
        print_line(&format!("  {line}"))?;
    }
    print_line("\nCtrl-C stops the cluster.")
}

/// Messages published through one node and read on another.
async fn demo(nodes: &[Node]) -> Result<(), CliError> {
    let failed = |error: crate::broker::BrokerError| CliError::failed(error.to_string());
    let (publisher, subscriber) = match nodes {
        [only] => (only.broker(), only.broker()),
        [first, .., last] => (first.broker(), last.broker()),
        [] => return Err(CliError::failed("no nodes".into())),
    };
    publisher.create_channel("demo", ChannelConfig::default()).await.map_err(failed)?;
    let mut subscription = subscriber.subscribe("demo", Start::Latest).await.map_err(failed)?;
    let name = subscriber.local().name;
    let received = async {
        for _ in 0..5 {
            let batch = subscription.next().await.map_err(failed)?;
            for (seq, message) in (batch.first_seq..).zip(batch.frame.messages().flatten()) {
                print_line(&format!("  {name} received demo@{seq}  {}", String::from_utf8_lossy(&message.payload)))?;
            }
        }
        Ok::<(), CliError>(())
    };
    let published = async {
        for number in 1..=5 {
            let payload = format!("{{\"id\":{number}}}");
            let envelope = Envelope { payload: payload.clone().into(), ..Envelope::default() };
            let key = format!("demo-{number}-{}", publisher.view().time_ms());
            let outcome = publisher.publish("demo", envelope, Some(&key)).await.map_err(failed)?;
            let delivered = outcome.delivered.map_or("unknown", |delivered| if delivered { "yes" } else { "no" });
            let (name, seq) = (publisher.local().name, outcome.seq);
            print_line(&format!(
                "{name} published demo@{seq}  {payload}  fsynced on a majority, delivered: {delivered}"
            ))?;
            tokio::time::sleep(DEMO_PAUSE).await;
        }
        Ok::<(), CliError>(())
    };
    tokio::try_join!(received, published)?;
    let page = subscriber.read("demo", Start::Earliest, 0, Consistency::Linearizable, None).await.map_err(failed)?;
    print_line(&format!("{} message(s) are stored on every node; run `liminal dev` to go on", page.end_seq))
}
