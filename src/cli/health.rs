//! `liminal health`: whether a node is ready, as an exit code: for container health checks and scripts on machines
//! without a shell.

use std::{error::Error, time::Duration};

use hyper_util::rt::TokioIo;
use liminal_tls::ClientFiles;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};
use tonic::{codegen::http::Uri, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{
    CliError, Global, OutputFormat,
    remote::{print_json, print_line},
};
use crate::{address, env::Connection};

/// How long the node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// An answer is a few lines; the description of the HTTP API is the longest.
const MAX_ANSWER: u64 = 1 << 20;
/// Where a node serves HTTP unless it is told otherwise.
const USUAL: &str = "127.0.0.1:7201";

/// What `health` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where the node serves HTTP, as HOST:PORT or https://HOST:PORT, which also says why it is not ready. Without it the
    /// nodes of `--server` are asked where that is given; else 127.0.0.1:7201
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
}

/// Runs the command: exit code 0 when all nodes that were asked are ready, 10 when one is not, 3 when one does not
/// answer.
pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let silent = |at: &str, why: &dyn std::fmt::Display| CliError::unreachable(format!("{at} does not answer: {why}"));
    if args.http.is_none() && !global.server.is_empty() {
        let mut all_ready = true;
        for server in &global.server {
            let ready = serves(server, global).await.map_err(|why| silent(server, &why))?;
            match global.output {
                OutputFormat::Json => print_json(&serde_json::json!({ "server": server, "ready": ready }))?,
                _ => print_line(&format!("{server}  {}", if ready { "ready" } else { "not ready" }))?,
            }
            all_ready &= ready;
        }
        return if all_ready { Ok(()) } else { Err(CliError::exit(10)) };
    }
    let http = args.http.as_deref().unwrap_or(USUAL);
    let (http, over_tls) = place(http, global);
    address::split(http).map_err(CliError::usage)?;
    let (ready, body) = ask(http, over_tls, "/ready").await.map_err(|why| silent(http, &why))?;
    match global.output {
        OutputFormat::Json => {
            print_json(&serde_json::json!({ "server": http, "ready": ready, "detail": body.trim() }))?;
        }
        _ => print_line(body.trim())?,
    }
    if ready { Ok(()) } else { Err(CliError::exit(10)) }
}

/// `HOST:PORT` of a URL, and which files TLS there is made of; none without TLS. Without a scheme it is over TLS where a CA is
/// named.
fn place<'a>(url: &'a str, global: &Global) -> (&'a str, Option<ClientFiles>) {
    let (rest, over_tls) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (rest, true),
        (None, Some(rest)) => (rest, false),
        (None, None) => (url, global.ca.is_some()),
    };
    (rest.trim_end_matches('/'), over_tls.then(|| global.tls_files()))
}

async fn connected(
    address: &str,
    over_tls: Option<ClientFiles>,
    protocol: &'static [u8],
) -> std::io::Result<Connection> {
    let stream = address::connect(address).await?;
    let Some(files) = over_tls else { return Ok(Connection::new(stream)) };
    let config = tokio::task::spawn_blocking(move || files.load(protocol)).await?.map_err(std::io::Error::other)?;
    let (host, _) = address::split(address).map_err(std::io::Error::other)?;
    Ok(Connection::new(liminal_tls::connect(config.into(), host, stream).await?))
}

/// Whether the answer to a GET was 200, and its body.
pub(super) async fn ask(address: &str, over_tls: Option<ClientFiles>, path: &str) -> Result<(bool, String), String> {
    let asked = async {
        let mut stream = connected(address, over_tls, b"http/1.1").await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.take(MAX_ANSWER).read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = match timeout(TIMEOUT, asked).await {
        Ok(answer) => answer.map_err(|error| error.to_string())?,
        Err(_) => return Err(format!("nothing came within {} s", TIMEOUT.as_secs())),
    };
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    Ok((head.split_ascii_whitespace().nth(1) == Some("200"), body.to_owned()))
}

/// Whether a node says over gRPC that clients should be sent to it.
async fn serves(server: &str, global: &Global) -> Result<bool, String> {
    let asked = async {
        let (address, over_tls) = place(server, global);
        address::split(address)?;
        let connector = tower::service_fn(move |uri: Uri| {
            let over_tls = over_tls.clone();
            async move {
                let address = uri.authority().map(ToString::to_string).unwrap_or_default();
                connected(&address, over_tls, b"h2").await.map(TokioIo::new)
            }
        });
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
        let channel = endpoint.connect_with_connector(connector).await;
        let channel = channel.map_err(|error| format!("cannot reach {address}: {}", innermost(&error)))?;
        let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
        let answer = answer.map_err(|status| status.message().to_owned())?;
        Ok(answer.get_ref().status() == ServingStatus::Serving)
    };
    timeout(TIMEOUT, asked).await.unwrap_or_else(|_| Err(format!("nothing came within {} s", TIMEOUT.as_secs())))
}

/// The cause of all causes: `transport error` says less than `connection refused`.
fn innermost(mut error: &dyn Error) -> &dyn Error {
    while let Some(cause) = error.source() {
        error = cause;
    }
    error
}
