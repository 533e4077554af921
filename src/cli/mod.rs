//! The command line (stand-in until the real one is merged).
pub mod bench;
pub mod channel;
pub mod cluster;
pub mod publish;
mod remote;
pub mod subscribe;
use crate::client::ClientError;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    Table,
    Json,
    Raw,
}
pub struct Global {
    pub server: Vec<String>,
    pub token: Option<String>,
    pub output: OutputFormat,
}
#[derive(Debug)]
pub enum CliError {
    Exit(u8),
    Failed(String),
    Usage(String),
    Client(ClientError),
}
impl CliError {
    pub fn exit(code: u8) -> Self {
        Self::Exit(code)
    }
    pub fn failed(text: String) -> Self {
        Self::Failed(text)
    }
    pub fn usage(text: String) -> Self {
        Self::Usage(text)
    }
}
impl From<ClientError> for CliError {
    fn from(e: ClientError) -> Self {
        Self::Client(e)
    }
}
