//! The command line. One file for each command; results on standard output, everything else on standard error.

pub mod auth;
pub mod bench;
mod certs;
pub mod channel;
pub mod claim;
pub mod cluster;
mod config;
pub mod consumer;
mod context;
mod definitions;
mod dev;
mod doctor;
mod error;
mod examples;
mod health;
mod man;
pub mod publish;
#[cfg(test)]
mod reference;
mod remote;
pub mod reply;
pub mod request;
pub mod role;
pub mod rule;
mod serve;
mod style;
pub mod subscribe;
mod supervisor;
pub mod token;
mod top;

use std::{fs, path::PathBuf, process::ExitCode};

use clap::{ArgMatches, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use liminal_tls::ClientFiles;

pub use self::error::CliError;
use crate::{
    files,
    telemetry::{self, LogFormat},
};

/// Where `liminal dev` and the sample configurations listen.
const DEFAULT_SERVERS: [&str; 3] = ["127.0.0.1:7101", "127.0.0.1:7102", "127.0.0.1:7103"];

/// A clustered, replicated message broker: acknowledged means fsynced on a majority.
#[derive(Parser)]
#[command(name = "liminal", version, after_help = "Begin with `liminal dev`: a cluster of three nodes in one process.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
    /// How log lines look
    #[arg(long, global = true, value_enum, default_value = "text")]
    log_format: LogFormat,
}

/// What all commands share.
#[derive(Clone, Debug, clap::Args)]
pub struct Global {
    /// The context whose servers, certificates, token file and output hold where nothing else is said; the one in use unless
    /// given: see `liminal context`
    #[arg(long, global = true, env = "LIMINAL_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,
    /// Nodes to talk to; any of them serves every request [default: http://127.0.0.1:7101 to 7103, or https:// with --ca]
    #[arg(long, global = true, env = "LIMINAL_SERVER", value_delimiter = ',', value_name = "URL")]
    pub server: Vec<String>,
    /// The file that holds the token to send; otherwise it is taken from the variable LIMINAL_TOKEN
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// That of the context, for which --token-file and LIMINAL_TOKEN leave room.
    #[arg(skip)]
    pub context_token_file: Option<PathBuf>,
    /// Refused: whoever lists the processes of a machine sees their command lines
    #[arg(long, global = true, hide = true, value_name = "TOKEN")]
    pub token: Option<String>,
    /// Certificates of the CAs to trust for https:// servers; without it those that this machine trusts
    #[arg(long, global = true, env = "LIMINAL_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The certificate to show to https:// servers that ask for one
    #[arg(long, global = true, env = "LIMINAL_CLIENT_CERT", value_name = "FILE", requires = "client_key")]
    pub client_cert: Option<PathBuf>,
    /// The private key of that certificate
    #[arg(long, global = true, env = "LIMINAL_CLIENT_KEY", value_name = "FILE", requires = "client_cert")]
    pub client_key: Option<PathBuf>,
    /// How results look; with json errors are JSON too, on standard error
    #[arg(short, long, global = true, env = "LIMINAL_OUTPUT", value_enum, default_value = "table")]
    pub output: OutputFormat,
}

impl Global {
    /// The nodes that were named, or the usual ones.
    pub fn servers(&self) -> Vec<String> {
        if !self.server.is_empty() {
            return self.server.clone();
        }
        let scheme = if self.ca.is_some() { "https" } else { "http" };
        DEFAULT_SERVERS.map(|server| format!("{scheme}://{server}")).to_vec()
    }

    /// Whether the nodes are asked over TLS.
    pub fn over_tls(&self) -> bool {
        self.servers().iter().any(|server| server.starts_with("https://"))
    }

    /// The files of TLS that were named.
    pub fn tls_files(&self) -> ClientFiles {
        ClientFiles { ca: self.ca.clone(), identity: self.client_cert.clone().zip(self.client_key.clone()) }
    }

    /// The token to send with every request: that of the file that was named, else that of the environment, else that of the
    /// context, else none.
    ///
    /// # Errors
    /// When the file cannot be read, or is empty.
    pub fn bearer(&self) -> Result<Option<String>, CliError> {
        let variable = || std::env::var("LIMINAL_TOKEN").ok().map(|token| token.trim().to_owned());
        let (from, file) = match (&self.token_file, variable().filter(|token| !token.is_empty())) {
            (Some(file), _) => ("--token-file", file),
            (None, Some(token)) => return Ok(Some(token)),
            (None, None) => match &self.context_token_file {
                Some(file) => ("the token file of the context,", file),
                None => return Ok(None),
            },
        };
        let unusable = |why: String| CliError::usage(format!("{from} {}: {why}", file.display()));
        let text = fs::read_to_string(file).map_err(|error| unusable(error.to_string()))?;
        match text.trim() {
            "" => Err(unusable("it is empty; write a token into it".into())),
            token => Ok(Some(token.to_owned())),
        }
    }
}

/// How results look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// For people
    Table,
    /// One JSON object a line
    Json,
    /// Payloads only
    Raw,
}

#[derive(Subcommand)]
enum Command {
    /// Run a whole cluster in this process, to try things out
    Dev(dev::Args),
    /// Run one node
    Serve(serve::Args),
    /// Publish messages
    #[command(visible_alias = "pub")]
    Publish(publish::Args),
    /// Follow a channel
    #[command(visible_alias = "sub")]
    Subscribe(subscribe::Args),
    /// Publish a message and wait for the reply of whoever handles it
    Request(request::Args),
    /// Answer a request, or all requests of a channel by a command
    Reply(reply::Args),
    /// Create, look at, change and delete channels
    #[command(subcommand)]
    Channel(channel::Command),
    /// Copy what is published to one channel into another
    #[command(subcommand)]
    Rule(rule::Command),
    /// Take, complete, renew and release claims on work
    #[command(subcommand)]
    Claim(claim::Command),
    /// Create, look at, change, move and delete consumers
    #[command(subcommand)]
    Consumer(consumer::Command),
    /// Say whether a node is ready, as an exit code
    Health(health::Args),
    /// Look at the cluster and change it
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Write channels, consumers, rules and roles to a file, and make a cluster have what a file says
    #[command(subcommand)]
    Definitions(definitions::Command),
    /// Show nodes, channels and consumers with their rates, again and again
    Top(top::Args),
    /// Look for what is wrong with a node's machine and with a cluster, and say what to do
    Doctor(doctor::Args),
    /// Keep under a name what commands need to reach a cluster
    #[command(subcommand)]
    Context(context::Command),
    /// Make, look at and end tokens of clients
    #[command(subcommand)]
    Token(token::Command),
    /// Make, look at and change roles, which say what tokens may do
    #[command(subcommand)]
    Role(role::Command),
    /// Ask what a token may do
    #[command(subcommand)]
    Auth(auth::Command),
    /// Measure
    #[command(subcommand)]
    Bench(bench::Command),
    /// Make certificates for development: a CA, and what it signs
    Certs(certs::Args),
    /// Check and show configurations
    #[command(subcommand)]
    Config(config::Command),
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write manual pages, one for each command
    Man(man::Args),
}

impl Command {
    /// Whether what a context says is of use to it.
    fn asks_a_cluster(&self) -> bool {
        !matches!(
            self,
            Self::Dev(_)
                | Self::Serve(_)
                | Self::Certs(_)
                | Self::Config(_)
                | Self::Context(_)
                | Self::Completions { .. }
                | Self::Man(_)
                | Self::Token(token::Command::Bootstrap)
                | Self::Cluster(cluster::Command::Restore { .. })
        )
    }
}

/// The command line with its examples.
fn command_line() -> clap::Command {
    examples::with_examples(<Cli as clap::CommandFactory>::command())
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    style::choose();
    let (mut cli, given) = match parse() {
        Ok(parsed) => parsed,
        Err(error) => {
            return match CliError::of_usage(&error).filter(|_| errors_are_json(words())) {
                Some(usage) => usage.report(OutputFormat::Json),
                None => error.exit(),
            };
        }
    };
    files::keep_private();
    if cli.command.asks_a_cluster()
        && let Err(error) = context::complete(&mut cli.global, &given)
    {
        return error.report(cli.global.output);
    }
    let output = cli.global.output;
    let filter = match cli.command {
        Command::Serve(_) => "info,openraft=error,haematite=error",
        _ => "warn,openraft=off,haematite=error",
    };
    if let Err(error) = telemetry::init(cli.log_format, filter) {
        return CliError::usage(error).report(output);
    }
    // One core is for Raft's thread, or for the servers that are on this machine.
    let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1));
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return CliError::failed(format!("cannot start: {error}")).report(output),
    };
    let result = runtime.block_on(run(cli, &given));
    // Whatever still blocks (a read of standard input) does not hold up the end.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(output),
    }
}

/// The command line of this process, and where each of its values is from.
fn parse() -> Result<(Cli, ArgMatches), clap::Error> {
    let given = command_line().try_get_matches()?;
    let cli = Cli::from_arg_matches(&given)?;
    Ok((cli, given))
}

/// Whether errors of a command line that cannot be read are to be JSON: it says so, or the environment or the context does.
fn errors_are_json(words: impl IntoIterator<Item = String>) -> bool {
    match asked_output(words).or_else(|| std::env::var("LIMINAL_OUTPUT").ok()) {
        Some(output) => output == "json",
        None => context::usual_output() == Some(OutputFormat::Json),
    }
}

/// The words of this process's command line.
fn words() -> impl Iterator<Item = String> {
    std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned())
}

/// The output that a command line asks for which cannot be read; the last one where it asks several times.
fn asked_output(words: impl IntoIterator<Item = String>) -> Option<String> {
    let mut words = words.into_iter().take_while(|word| word != "--");
    let mut asked = None;
    while let Some(word) = words.next() {
        let value = match word.as_str() {
            "-o" | "--output" => words.next(),
            word => word.strip_prefix("--output=").or(word.strip_prefix("-o")).map(str::to_owned),
        };
        asked = value.map(|value| value.trim_start_matches('=').to_owned()).or(asked);
    }
    asked
}

async fn run(cli: Cli, given: &ArgMatches) -> Result<(), CliError> {
    let global = &cli.global;
    if global.token.is_some() {
        let why = "--token: whoever lists the processes of this machine sees what is on their command lines";
        return Err(CliError::usage(why.into()).with_help(
            "write the token into a file that only you can read and name it with --token-file, or set LIMINAL_TOKEN; \
             if others may have seen it, replace it with `liminal token rotate ID`"
                .into(),
        ));
    }
    match cli.command {
        Command::Dev(args) => dev::run(args).await,
        Command::Certs(args) => certs::run(args, global),
        Command::Serve(args) => serve::run(args, global.output).await,
        Command::Publish(args) => publish::run(args, global).await,
        Command::Subscribe(args) => subscribe::run(args, global).await,
        Command::Request(args) => request::run(args, global).await,
        Command::Reply(args) => reply::run(args, global).await,
        Command::Channel(command) => channel::run(command, global).await,
        Command::Rule(command) => rule::run(command, global).await,
        Command::Claim(command) => claim::run(command, global).await,
        Command::Consumer(command) => consumer::run(command, global).await,
        Command::Health(args) => health::run(args, global).await,
        Command::Cluster(command) => cluster::run(command, global).await,
        Command::Token(command) => token::run(command, global).await,
        Command::Role(command) => role::run(command, global).await,
        Command::Auth(command) => auth::run(command, global).await,
        Command::Definitions(command) => definitions::run(command, global).await,
        Command::Top(args) => top::run(args, global).await,
        Command::Doctor(args) => doctor::run(args, global).await,
        Command::Context(command) => context::run(command, global, given),
        Command::Man(args) => man::run(&args, global),
        Command::Bench(command) => bench::run(command, global).await,
        Command::Config(command) => config::run(command, global),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command_line(), "liminal", &mut script);
            remote::print_line(String::from_utf8_lossy(&script).trim_end())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_asked_for_in_every_spelling_of_the_flag() {
        let asks = |line: &str| asked_output(line.split(' ').map(str::to_owned)).as_deref() == Some("json");
        for yes in ["-o json x", "x -ojson", "x y -o=json", "--output json", "x --output=json --no"] {
            assert!(asks(yes), "{yes}");
        }
        for no in ["", "x json", "-o table json", "-o json x -o table", "x -- -o json", "--output", "--offset json"] {
            assert!(!asks(no), "{no}");
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        command_line().debug_assert();
    }
}
