//! `liminal dev`: a whole cluster in one process, with the commands to try it. What is published to it is still there the
//! next time, and where it is stands on the screen; a demonstration leaves nothing behind.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    CliError,
    certs::{self, CA_CERT},
    remote::print_line,
    serve::{Signals, start},
};
use crate::{
    broker::{Consistency, Envelope, Start},
    config::{ClusterConfig, PeerTlsConfig, ServerConfig, TlsConfig},
    model::ChannelConfig,
    node::Node,
};

/// Nodes of one process that are still useful to try things with.
const MAX_NODES: u16 = 9;
/// Where the commands look for a cluster that they are not told of.
const USUAL_PORT: u16 = 7100;
/// How long the cluster may take to find its leader.
const FORM_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the certificates are valid that are made at each start.
const CERTIFICATE_DAYS: u32 = 90;
/// Pause between two messages of the demonstration.
const DEMO_PAUSE: Duration = Duration::from_millis(500);

/// What `dev` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How many nodes
    #[arg(long, default_value_t = 3)]
    nodes: u16,
    /// Where the nodes keep their state; `liminal/dev` in the user's directory for data where it is not given
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Keep nothing: the nodes' state is gone when the cluster stops
    #[arg(long, conflicts_with = "data_dir")]
    ephemeral: bool,
    /// Node n listens on this + n for clients, + 100 + n for HTTP and + 200 + n for the other nodes
    #[arg(long, default_value_t = USUAL_PORT)]
    base_port: u16,
    /// Speak TLS, to clients and between the nodes, with certificates made for it
    #[arg(long)]
    tls: bool,
    /// Publish a few messages, show them arriving on another node, and stop. Keeps nothing without --data-dir
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
    let dir = place(&args, |name| env::var_os(name).map(PathBuf::from))?;
    if let Some(dir) = &dir {
        check_size(dir, args.nodes)?;
    }
    let mut signals = Signals::new()?;
    let mut nodes = Vec::new();
    let cookie = crate::env::Env::real().random.secret();
    let certs = args.tls.then(|| Certs::make(&args, dir.as_deref())).transpose()?;
    for number in 1..=args.nodes {
        let config = config(&args, &cookie, dir.as_deref(), certs.as_ref(), number);
        nodes.push(start(config, args.nodes).await?);
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
        let (name, client, http) = (node.broker().local().name.clone(), node.client_address(), node.http_address());
        let scheme = scheme(&args);
        print_line(&format!("  {name}  clients {scheme}://{client}  {scheme}://{http}/ready"))?;
    }
    match &dir {
        Some(dir) => print_line(&format!("  data in {}", dir.display()))?,
        None => print_line("  data in a temporary directory: it is gone when the cluster stops")?,
    }
    let done = if args.demo { demo(&args, &nodes).await } else { instructions(&args, &nodes, certs.as_ref()) };
    if !args.demo && done.is_ok() {
        signals.next().await;
    }
    futures::future::join_all(nodes.into_iter().map(Node::stop)).await;
    done
}

/// Where the nodes keep their state; none: nowhere.
fn place(args: &Args, variable: impl Fn(&str) -> Option<PathBuf>) -> Result<Option<PathBuf>, CliError> {
    if let Some(dir) = &args.data_dir {
        return Ok(Some(dir.clone()));
    }
    if args.ephemeral || args.demo {
        return Ok(None);
    }
    let of_user = variable("XDG_DATA_HOME").filter(|dir| dir.is_absolute());
    let of_user = of_user.or_else(|| Some(variable("HOME").filter(|dir| dir.is_absolute())?.join(".local/share")));
    let Some(of_user) = of_user else {
        return Err(CliError::usage("this user has no directory for data (HOME is not set)".into())
            .with_help("name one with --data-dir, or keep nothing with --ephemeral".into()));
    };
    // A cluster at other ports is another cluster.
    let name = if args.base_port == USUAL_PORT { "dev".to_owned() } else { format!("dev-{}", args.base_port) };
    Ok(Some(of_user.join("liminal").join(name)))
}

/// Fewer nodes than a cluster has may be no majority of it.
fn check_size(dir: &Path, nodes: u16) -> Result<(), CliError> {
    let found = (1..=MAX_NODES).rev().find(|number| fs::exists(dir.join(format!("n{number}"))).unwrap_or(false));
    match found {
        Some(found) if found > nodes => {
            Err(CliError::usage(format!("--nodes {nodes}: the cluster in {} has {found} nodes", dir.display()))
                .with_help(format!(
                    "take --nodes {found}, another --data-dir, or --ephemeral; or delete that directory"
                )))
        }
        _ => Ok(()),
    }
}

fn scheme(args: &Args) -> &'static str {
    if args.tls { "https" } else { "http" }
}

/// The directory of the certificates, which goes with a cluster that keeps nothing.
struct Certs {
    dir: PathBuf,
    is_kept: bool,
}

impl Certs {
    fn make(args: &Args, data: Option<&Path>) -> Result<Self, CliError> {
        let random = crate::env::Env::real().random;
        let temporary = || env::temp_dir().join(format!("liminal-certs-{:016x}", random.next_u64()));
        let made = Self { dir: data.map_or_else(temporary, |dir| dir.join("certs")), is_kept: data.is_some() };
        let nodes: Vec<String> = (1..=args.nodes).map(|number| format!("n{number}")).collect();
        let clients = ["client".to_owned()];
        let wanted = certs::Wanted { nodes: &nodes, clients: &clients, hosts: &[], days: CERTIFICATE_DAYS };
        certs::make(&made.dir, &wanted).map_err(|error| {
            CliError::failed(format!("cannot make certificates in {}: {error}", made.dir.display()))
        })?;
        Ok(made)
    }

    fn file(&self, name: &str) -> Option<String> {
        Some(self.dir.join(name).to_string_lossy().into_owned())
    }

    fn of_node(&self, number: u16) -> (TlsConfig, PeerTlsConfig) {
        let (cert, key) = (self.file(&format!("n{number}.crt")), self.file(&format!("n{number}.key")));
        let ca = self.file(CA_CERT);
        let clients = TlsConfig { cert: cert.clone(), key: key.clone(), client_ca: ca.clone(), ..TlsConfig::default() };
        (clients, PeerTlsConfig { cert, key, ca, ..PeerTlsConfig::default() })
    }
}

impl Drop for Certs {
    fn drop(&mut self) {
        if !self.is_kept
            && let Err(error) = fs::remove_dir_all(&self.dir)
        {
            tracing::debug!(%error, dir = %self.dir.display(), "cannot remove a temporary directory");
        }
    }
}

fn config(args: &Args, cookie: &str, dir: Option<&Path>, certs: Option<&Certs>, number: u16) -> ServerConfig {
    let address = |offset: u16, number: u16| format!("127.0.0.1:{}", args.base_port + offset + number);
    let (tls, peer_tls) = certs.map(|certs| certs.of_node(number)).unwrap_or_default();
    ServerConfig {
        tls,
        peer_tls,
        listen_address: address(0, number),
        health_listen_address: address(100, number),
        drain_timeout: Duration::from_secs(2),
        persistence_path: dir.map(|dir| dir.join(format!("n{number}"))),
        ephemeral_node: dir.is_none(),
        cluster: Some(ClusterConfig {
            node_name: format!("n{number}"),
            listen_address: address(200, number),
            seed_nodes: (1..=args.nodes).map(|number| address(200, number)).collect(),
            // All nodes are in this process: nobody else has to know it.
            cookie: cookie.into(),
            expect: usize::from(args.nodes),
            ..ClusterConfig::default()
        }),
        ..ServerConfig::default()
    }
}

fn instructions(args: &Args, nodes: &[Node], certs: Option<&Certs>) -> Result<(), CliError> {
    let scheme = scheme(args);
    let servers: Vec<String> = nodes.iter().map(|node| format!("{scheme}://{}", node.client_address())).collect();
    print_line("\nIn another terminal:\n")?;
    if let Some(ca) = certs.and_then(|certs| certs.file(CA_CERT)) {
        print_line(&format!("  export LIMINAL_CA={ca}"))?;
    }
    if args.base_port != USUAL_PORT {
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
async fn demo(args: &Args, nodes: &[Node]) -> Result<(), CliError> {
    let failed = |error: crate::broker::BrokerError| CliError::failed(error.to_string());
    let (publisher, subscriber) = match nodes {
        [only] => (only.broker(), only.broker()),
        [first, .., last] => (first.broker(), last.broker()),
        [] => return Err(CliError::failed("no nodes".into())),
    };
    publisher.create_channel("demo", ChannelConfig::default()).await.map_err(failed)?;
    let mut subscription = subscriber.subscribe("demo", Start::Latest).await.map_err(failed)?;
    let name = subscriber.local().name.clone();
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
            let (name, seq) = (publisher.local().name.clone(), outcome.seq);
            print_line(&format!(
                "{name} published demo@{seq}  {payload}  fsynced on a majority, delivered: {delivered}"
            ))?;
            tokio::time::sleep(DEMO_PAUSE).await;
        }
        Ok::<(), CliError>(())
    };
    tokio::try_join!(received, published)?;
    let page = subscriber.read("demo", Start::Earliest, 0, Consistency::Linearizable, None).await.map_err(failed)?;
    print_line(&ending(args.data_dir.as_deref(), page.end_seq))
}

fn ending(dir: Option<&Path>, stored: u64) -> String {
    match dir {
        Some(dir) => {
            let dir = dir.display();
            format!("{stored} message(s) are stored on every node; `liminal dev --data-dir {dir}` goes on with them")
        }
        None => format!(
            "{stored} message(s) were stored on every node and go with this demonstration; `liminal dev` starts a cluster \
             that keeps what it is given"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> Args {
        Args { nodes: 3, data_dir: None, ephemeral: false, base_port: USUAL_PORT, tls: false, demo: false }
    }

    #[test]
    fn a_cluster_keeps_its_data_in_the_users_directory_unless_it_is_told_otherwise() {
        let home = |name: &str| (name == "HOME").then(|| PathBuf::from("/home/u"));
        let usual = place(&args(), home).unwrap();
        assert_eq!(usual.as_deref(), Some(Path::new("/home/u/.local/share/liminal/dev")));
        let xdg = |name: &str| Some(PathBuf::from(if name == "HOME" { "/home/u" } else { "/data" }));
        let other = place(&Args { base_port: 8100, ..args() }, xdg).unwrap();
        assert_eq!(other.as_deref(), Some(Path::new("/data/liminal/dev-8100")));
        let named = Args { data_dir: Some("d".into()), demo: true, ..args() };
        assert_eq!(place(&named, home).unwrap().as_deref(), Some(Path::new("d")));
        assert_eq!(place(&Args { ephemeral: true, ..args() }, home).unwrap(), None);
        assert_eq!(place(&Args { demo: true, ..args() }, home).unwrap(), None);
        assert!(place(&args(), |_| None).is_err());
    }

    #[test]
    fn a_smaller_cluster_than_the_stored_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check_size(dir.path(), 1).is_ok());
        fs::create_dir(dir.path().join("n3")).unwrap();
        assert!(check_size(dir.path(), 1).is_err());
        assert!(check_size(dir.path(), 3).is_ok() && check_size(dir.path(), 5).is_ok());
    }

    #[test]
    fn a_demonstration_says_what_becomes_of_its_messages() {
        assert!(ending(None, 5).contains("go with this demonstration"));
        assert!(ending(Some(Path::new("d")), 5).contains("`liminal dev --data-dir d`"));
    }
}
