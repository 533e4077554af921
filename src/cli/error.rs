//! How a command fails: what, why, what to do next, and the exit code. It is told on standard error, by one rule for all
//! commands: as text, or with `-o json` as one JSON object on a line of its own, `{"error":{..}}`, whatever went wrong and
//! wherever. Results, and what became of each line of a file, are on standard output.

use std::process::ExitCode;

use super::{OutputFormat, remote::json_line, style::Style};
use crate::client::{ClientError, Code, ErrorDetail};

/// The exit code of what did not work, for whatever reason. Those of errors with a code are in the table of codes.
const FAILED: u8 = 1;

/// Why a command ends with another exit code than 0.
#[derive(Debug)]
pub struct CliError {
    exit: u8,
    message: Option<String>,
    help: Option<String>,
    code: Option<Code>,
    details: Vec<ErrorDetail>,
}

/// An error as programs read it.
#[derive(serde::Serialize)]
struct Said<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    details: &'a [ErrorDetail],
    /// Of the process.
    exit: u8,
}

impl CliError {
    /// With nothing more to say.
    pub fn exit(code: u8) -> Self {
        Self { exit: code, message: None, help: None, code: None, details: Vec::new() }
    }

    /// It did not work.
    pub fn failed(message: String) -> Self {
        Self { message: Some(message), ..Self::exit(FAILED) }
    }

    /// No node answered.
    pub fn unreachable(message: String) -> Self {
        Self { message: Some(message), ..Self::exit(Code::Unreachable.meaning().exit) }
    }

    /// It was asked for in a way that makes no sense.
    pub fn usage(message: String) -> Self {
        Self { message: Some(message), ..Self::exit(Code::Usage.meaning().exit) }
    }

    /// With what to do next.
    pub fn with_help(self, help: String) -> Self {
        Self { help: Some(help), ..self }
    }

    /// With a stable code for programs.
    pub fn with_code(self, code: impl Into<Code>) -> Self {
        Self { code: Some(code.into()), ..self }
    }

    /// What the command line's library says of a command that it cannot read; none where it only helps.
    pub(super) fn of_usage(error: &clap::Error) -> Option<Self> {
        if !error.use_stderr() {
            return None;
        }
        let text = error.render().to_string();
        let (message, help) = match text.strip_prefix("error: ") {
            Some(text) => text.split_once("\n\n").unwrap_or((text, "")),
            // It shows what there is.
            None => ("a command is missing", text.as_str()),
        };
        let usage = Self::usage(message.trim().to_owned());
        Some(if help.trim().is_empty() { usage } else { usage.with_help(help.trim().to_owned()) })
    }

    /// Tells the user, and gives the exit code. With `-o json` what is said is one JSON object, on standard error as any
    /// error is.
    pub(super) fn report(self, output: OutputFormat) -> ExitCode {
        if let (OutputFormat::Json, Some(message)) = (output, &self.message) {
            let usage = Code::Usage.meaning();
            let code = self.code.as_ref().map(Code::as_str).or((self.exit == usage.exit).then_some(usage.code));
            let said = Said { message, help: self.help.as_deref(), code, details: &self.details, exit: self.exit };
            match json_line(&serde_json::json!({ "error": said })) {
                Ok(line) => eprintln!("{line}"),
                Err(error) => eprintln!("error: {message} ({error})"),
            }
            return ExitCode::from(self.exit);
        }
        if let Some(message) = self.message {
            eprintln!("{} {message}", Style::Red.on_stderr("error:"));
        }
        for ErrorDetail { pointer, message } in &self.details {
            eprintln!("  {pointer}: {message}");
        }
        if let Some(help) = self.help {
            eprintln!("  {} {help}", Style::Green.on_stderr("help:"));
        }
        if let Some(code) = self.code {
            eprintln!("  code: {code}");
        }
        ExitCode::from(self.exit)
    }
}

impl std::fmt::Display for CliError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.message.as_deref().unwrap_or_default())
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let (message, details) = (Some(error.message().to_owned()), error.details().to_vec());
        let code = Some(error.code().clone()).filter(|code| !code.as_str().is_empty());
        Self { exit: error.code().meaning().exit, message, help: error.help().map(str::to_owned), code, details }
    }
}
