//! `liminal serve`: one node, until it is told to stop.

use std::path::{Path, PathBuf};

use tokio::signal::unix::{Signal, SignalKind, signal};
use zeroize::Zeroizing;

use super::{CliError, OutputFormat, config, supervisor::Supervisor};
use crate::{
    budget::descriptors,
    config::{ClusterConfig, ServerConfig},
    env::Env,
    files,
    model::JoinToken,
    node::{Node, NodeError, Storage},
};

/// The variable that may hold a join token.
const JOIN_TOKEN: &str = "LIMINAL_JOIN_TOKEN";

/// What to do about an address that cannot be listened on. A second `liminal dev` is the usual reason.
const LISTEN_HELP: &str = "stop the node that runs there already, or choose other ports: `liminal dev --base-port 8100`, or \
                           the addresses in the configuration of `serve`";

/// What `serve` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// A value that wins over the file and over LIMINAL_* variables, for example `limits.message_bytes=2MiB`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The file with the token of `cluster invite` by which this node joins; LIMINAL_JOIN_TOKEN may hold the token instead.
    /// A node that is in a cluster already needs none
    #[arg(long, value_name = "FILE")]
    join_token_file: Option<PathBuf>,
}

/// The token by which a new node joins.
fn join_token(file: Option<&Path>) -> Result<Option<JoinToken>, CliError> {
    let (from, text) = match (file, std::env::var(JOIN_TOKEN)) {
        (Some(file), _) => {
            let unreadable = |error| CliError::usage(format!("--join-token-file: {}: {error}", file.display()));
            (file.display().to_string(), std::fs::read_to_string(file).map_err(unreadable)?)
        }
        (None, Ok(text)) if !text.is_empty() => (JOIN_TOKEN.to_owned(), text),
        (None, _) => return Ok(None),
    };
    let text = Zeroizing::new(text);
    text.trim().parse().map(Some).map_err(|what: String| CliError::usage(format!("{from}: {what}")))
}

pub(super) async fn run(args: Args, output: OutputFormat) -> Result<(), CliError> {
    let mut config = config::load(Some(&args.config), args.set)?.config;
    if let Some(cluster) = &mut config.cluster {
        cluster.join_token = join_token(args.join_token_file.as_deref())?;
    }
    if config.ephemeral_node {
        tracing::warn!("this node is ephemeral: all of its messages are gone when it stops");
    }
    let refused =
        |what| CliError::failed(format!("the configuration cannot be used\n{}: {what}", args.config.display()));
    if let Some(warning) = config.check_exposure().map_err(refused)? {
        tracing::warn!("{warning}");
    }
    if !config.security.core_dumps
        && let Err(error) = files::keep_memory_private()
    {
        tracing::warn!(%error, "a crash of this node may write its secrets to disk: core dumps cannot be turned off");
    }
    // Caught from here on, so that none is lost between the first and the second.
    let mut signals = Signals::new()?;
    let supervisor = Supervisor::of_environment();
    let node = start(config, 1).await?;
    tracing::info!(clients = node.client_address(), http = node.http_address(), "serving");
    node.on_stuck(Box::new(move |reason| {
        tracing::error!(reason, "this node does not come back by itself: it ends");
        let _ = CliError::failed(format!("the node cannot go on: {reason}")).report(output);
        std::process::exit(1);
    }));
    let failed = node.group().clone();
    tokio::select! {
        () = signals.next() => {}
        reason = failed.failed() => return Err(CliError::failed(format!("the node cannot go on: {reason}"))),
        never = supervisor.follow(|| node.unmet()) => match never {},
    }
    supervisor.stopping();
    tracing::info!("stopping; a second signal stops at once");
    tokio::select! {
        flushed = node.finish() => flushed.map_err(|error| {
            let message = format!("the node has stopped, but its state could not be made durable: {error}");
            CliError::failed(message).with_help("look after its disk; its log brings back what is missing".to_owned())
        }),
        () = signals.next() => {
            Err(CliError::failed("stopped at once, without draining".into()))
        }
    }
}

/// Starts one of so many nodes of this process.
pub(super) async fn start(mut config: ServerConfig, nodes: u16) -> Result<Node, CliError> {
    descriptors::prepare(&mut config.limits, nodes);
    if let Err(error) = liminal_memory::look_after() {
        tracing::warn!(%error, "memory that a burst takes will stay resident: no thread looks after it");
    }
    let env = Env::real();
    let storage = {
        let (mut config, env) = (config.clone(), env.clone());
        config.cluster.iter_mut().for_each(ClusterConfig::forget_secret);
        tokio::task::spawn_blocking(move || Storage::open(&config, &env)).await
    };
    let storage = storage.map_err(|error| CliError::failed(error.to_string()))?;
    let storage = storage.map_err(|error| CliError::failed(error.to_string()))?;
    Node::start(config, env, storage).await.map_err(|error| {
        let failed = CliError::failed(error.to_string());
        match error {
            NodeError::Listen { .. } => failed.with_help(LISTEN_HELP.into()),
            _ => failed,
        }
    })
}

/// SIGTERM and SIGINT, from the moment that this is made.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> Result<Self, CliError> {
        let caught = |kind| signal(kind).map_err(|error| CliError::failed(format!("cannot wait for signals: {error}")));
        Ok(Self { terminate: caught(SignalKind::terminate())?, interrupt: caught(SignalKind::interrupt())? })
    }

    /// Resolves at the next of them.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
