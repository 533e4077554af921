//! `liminal health`: whether a node is ready, as an exit code: for container health checks and scripts on machines
//! without a shell.

use std::{
    io::{Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    time::Duration,
};

use super::{CliError, remote::print_line};

/// How long the node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// An answer is a few lines.
const MAX_ANSWER: u64 = 64 << 10;

/// What `health` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where the node serves HTTP
    #[arg(long, default_value = "127.0.0.1:7201", value_name = "HOST:PORT")]
    http: String,
}

/// Runs the command: exit code 0 when the node is ready, 10 when it is not, 3 when it does not answer.
pub async fn run(args: Args) -> Result<(), CliError> {
    let address = args.http.clone();
    let asked = tokio::task::spawn_blocking(move || ask(&address)).await;
    let answer = asked.map_err(|error| CliError::failed(error.to_string()))?;
    let answer = answer.map_err(|error| CliError::unreachable(format!("{} does not answer: {error}", args.http)))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    print_line(body.trim())?;
    if head.split_ascii_whitespace().nth(1) == Some("200") { Ok(()) } else { Err(CliError::exit(10)) }
}

fn ask(address: &str) -> std::io::Result<String> {
    let to = address.to_socket_addrs()?.next().ok_or_else(|| std::io::Error::other("the name has no address"))?;
    let mut stream = TcpStream::connect_timeout(&to, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET /ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
    Ok(answer)
}
