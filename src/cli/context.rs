//! `liminal context`: named sets of what commands need to reach a cluster, kept in a file of the user. A value on the command
//! line wins over a variable of the environment, that over the context, and that over the default.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use clap::{ArgMatches, parser::ValueSource};
use serde::{Deserialize, Serialize};

use super::{
    CliError, Global, OutputFormat,
    remote::{confirm, print_json, print_line, table},
};

/// Create, list, use, show and delete contexts: what commands need to reach a cluster
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Keep servers, certificates and a token file under a name; --server, --ca, --client-cert, --client-key, --token-file and
    /// --output say what is kept. The first context is used from then on
    Create {
        /// Its name
        name: String,
        /// Replace the context of this name, if there is one
        #[arg(long)]
        replace: bool,
        /// Use it from now on
        #[arg(long = "use")]
        use_it: bool,
    },
    /// List all contexts
    #[command(visible_alias = "ls")]
    List,
    /// Use a context in all commands that name no other one
    Use {
        /// Its name; none: no context
        #[arg(required_unless_present = "none")]
        name: Option<String>,
        /// Use no context
        #[arg(long, conflicts_with = "name")]
        none: bool,
    },
    /// Show one context
    #[command(visible_alias = "info")]
    Show {
        /// Its name; the one in use unless given
        name: Option<String>,
    },
    /// Delete a context; the files that it names stay
    Delete {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// What is kept under a name. Paths are absolute, so that it does not matter where a command runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Context {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    servers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_cert: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_key: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<OutputFormat>,
}

/// The file with all contexts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Contexts {
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Context>,
}

/// Where the file is: below $XDG_CONFIG_HOME, or ~/.config.
fn place() -> Result<PathBuf, CliError> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // A relative path is to be passed over, says the specification of these directories.
    let config = variable("XDG_CONFIG_HOME").filter(|dir| dir.is_absolute());
    let config = config.or_else(|| variable("HOME").map(|home| home.join(".config")));
    let config = config.ok_or_else(|| {
        CliError::usage("contexts have no place: neither HOME nor XDG_CONFIG_HOME is set".to_owned())
            .with_help("set one of them, or name servers with --server".to_owned())
    })?;
    Ok(config.join("liminal").join("contexts.toml"))
}

impl Contexts {
    /// What the file says; nothing where there is none.
    fn read(file: &Path) -> Result<Self, CliError> {
        let unusable = |why: String| CliError::failed(format!("cannot use {}: {why}", file.display()));
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(unusable(error.to_string())),
        };
        toml::from_str(&text).map_err(|error| unusable(error.to_string()))
    }

    /// Replaces the file as a whole. Nobody else may read it: it says where tokens are.
    fn write(&self, file: &Path) -> Result<(), CliError> {
        let failed = |error: io::Error| CliError::failed(format!("cannot write {}: {error}", file.display()));
        let text = toml::to_string(self).map_err(|error| failed(io::Error::other(error)))?;
        if let Some(dir) = file.parent() {
            fs::create_dir_all(dir).map_err(failed)?;
        }
        let partial = file.with_extension("toml.partial");
        let mut options = fs::OpenOptions::new();
        let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&partial).map_err(failed)?;
        // One that was left behind keeps the mode that it had.
        out.set_permissions(fs::Permissions::from_mode(0o600)).map_err(failed)?;
        out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).map_err(failed)?;
        fs::rename(&partial, file).map_err(failed)
    }

    fn named(&self, name: &str) -> Result<&Context, CliError> {
        self.contexts.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            let there = if names.is_empty() { "there are none".to_owned() } else { names.join(", ") };
            CliError::usage(format!("there is no context `{name}`"))
                .with_help(format!("contexts: {there}; `liminal context create {name} --server URL` makes one"))
        })
    }
}

/// The output that the context in use asks for, to report errors of a command line that cannot be read.
pub(super) fn usual_output() -> Option<OutputFormat> {
    let contexts = Contexts::read(&place().ok()?).ok()?;
    let named = std::env::var("LIMINAL_CONTEXT").ok().filter(|name| !name.is_empty());
    contexts.contexts.get(&named.or(contexts.current)?)?.output
}

/// Fills in what neither the command line nor the environment says.
///
/// The context in use is for its own servers: where others are named, its token and its certificates stay where they are, unless
/// the context is named too.
///
/// # Errors
/// When the file cannot be used, or there is no context of the name that was given.
pub(super) fn complete(global: &mut Global, given: &ArgMatches) -> Result<(), CliError> {
    let named = global.context.as_deref().filter(|name| !name.is_empty());
    let file = match (place(), named) {
        (Ok(file), _) => file,
        (Err(error), Some(_)) => return Err(error),
        (Err(_), None) => return Ok(()),
    };
    let contexts = Contexts::read(&file)?;
    let Some(name) = named.or(contexts.current.as_deref()) else { return Ok(()) };
    let is_default = |id| !matches!(given.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable));
    fill(global, contexts.named(name)?, named.is_some(), is_default("output"));
    Ok(())
}

fn fill(global: &mut Global, context: &Context, is_named: bool, output_is_default: bool) {
    if output_is_default && let Some(output) = context.output {
        global.output = output;
    }
    if !global.server.is_empty() && !is_named {
        return;
    }
    let context = context.clone();
    if global.server.is_empty() {
        global.server = context.servers;
    }
    global.ca = global.ca.take().or(context.ca);
    // A certificate and its key belong together.
    if global.client_cert.is_none() && global.client_key.is_none() {
        global.client_cert = context.client_cert;
        global.client_key = context.client_key;
    }
    global.context_token_file = context.token_file;
}

/// Runs the command.
pub(super) fn run(command: Command, global: &Global, given: &ArgMatches) -> Result<(), CliError> {
    let file = place()?;
    let mut contexts = Contexts::read(&file)?;
    match command {
        Command::Create { name, replace, use_it } => {
            if name.is_empty() || name.starts_with('-') {
                return Err(CliError::usage(format!("`{name}` is no name for a context")));
            }
            if contexts.contexts.contains_key(&name) && !replace {
                let message = format!("there is a context `{name}` already; add --replace to replace it");
                return Err(CliError::usage(message));
            }
            let context = wanted(global, given)?;
            contexts.contexts.insert(name.clone(), context);
            if use_it || contexts.current.is_none() {
                contexts.current = Some(name.clone());
            }
            contexts.write(&file)?;
            one(&contexts, &name, global.output)
        }
        Command::List => list(&contexts, global.output),
        Command::Use { name: None, .. } => {
            contexts.current = None;
            contexts.write(&file)?;
            said(global.output, &serde_json::json!({ "current": null }), "no context is in use")
        }
        Command::Use { name: Some(name), .. } => {
            contexts.named(&name)?;
            contexts.current = Some(name.clone());
            contexts.write(&file)?;
            said(global.output, &serde_json::json!({ "current": name }), &format!("{name}  in use"))
        }
        Command::Show { name } => {
            let name = name.or_else(|| global.context.clone()).or_else(|| contexts.current.clone());
            let name = name.ok_or_else(|| {
                CliError::failed("no context is in use".to_owned()).with_help("name one, or use one".to_owned())
            })?;
            one(&contexts, &name, global.output)
        }
        Command::Delete { name, yes } => {
            contexts.named(&name)?;
            confirm(yes, &format!("delete context `{name}`"), "nothing was deleted")?;
            contexts.contexts.remove(&name);
            contexts.current = contexts.current.filter(|current| *current != name);
            contexts.write(&file)?;
            said(global.output, &serde_json::json!({ "name": name, "deleted": true }), &format!("{name}  deleted"))
        }
    }
}

fn said(output: OutputFormat, json: &serde_json::Value, text: &str) -> Result<(), CliError> {
    match output {
        OutputFormat::Json => print_json(json),
        OutputFormat::Raw => Ok(()),
        OutputFormat::Table => print_line(text),
    }
}

/// What the options of the command line ask to keep. What the environment says is not kept.
fn wanted(global: &Global, given: &ArgMatches) -> Result<Context, CliError> {
    let typed = |id: &str| given.value_source(id) == Some(ValueSource::CommandLine);
    let absolute = |option: &str, file: &Option<PathBuf>, id: &str| match file.as_ref().filter(|_| typed(id)) {
        None => Ok(None),
        // What is wrong with a file is better told now than by each command that is to use it.
        Some(path) => fs::canonicalize(path)
            .map(Some)
            .map_err(|error| CliError::usage(format!("{option} {}: {error}", path.display()))),
    };
    let context = Context {
        servers: if typed("server") { global.server.clone() } else { Vec::new() },
        ca: absolute("--ca", &global.ca, "ca")?,
        client_cert: absolute("--client-cert", &global.client_cert, "client_cert")?,
        client_key: absolute("--client-key", &global.client_key, "client_key")?,
        token_file: absolute("--token-file", &global.token_file, "token_file")?,
        output: typed("output").then_some(global.output),
    };
    if context == Context::default() {
        return Err(CliError::usage("a context has to keep something".to_owned()).with_help(
            "for example `liminal context create prod --server https://broker:7101 --ca ca.pem`".to_owned(),
        ));
    }
    Ok(context)
}

/// A context as `-o json` says it.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    current: bool,
    #[serde(flatten)]
    context: &'a Context,
}

fn one(contexts: &Contexts, name: &str, output: OutputFormat) -> Result<(), CliError> {
    let context = contexts.named(name)?;
    let current = contexts.current.as_deref() == Some(name);
    match output {
        OutputFormat::Json => print_json(&Shown { name, current, context }),
        OutputFormat::Raw => print_line(&context.servers.join(",")),
        OutputFormat::Table => {
            let path = |path: &Option<PathBuf>| path.as_ref().map_or("-".to_owned(), |path| path.display().to_string());
            let servers = if context.servers.is_empty() { "-".to_owned() } else { context.servers.join(", ") };
            let rows = [
                ("name", name.to_owned()),
                ("in use", if current { "yes" } else { "no" }.to_owned()),
                ("servers", servers),
                ("ca", path(&context.ca)),
                ("client cert", path(&context.client_cert)),
                ("client key", path(&context.client_key)),
                ("token file", path(&context.token_file)),
                ("output", context.output.map_or("-".to_owned(), |output| format!("{output:?}").to_lowercase())),
            ];
            print_line(&rows.map(|(name, value)| format!("{name:<13}{value}")).join("\n"))
        }
    }
}

fn list(contexts: &Contexts, output: OutputFormat) -> Result<(), CliError> {
    let is_current = |name: &str| contexts.current.as_deref() == Some(name);
    match output {
        OutputFormat::Json => contexts
            .contexts
            .iter()
            .try_for_each(|(name, context)| print_json(&Shown { name, current: is_current(name), context })),
        OutputFormat::Raw => contexts.contexts.keys().try_for_each(|name| print_line(name)),
        OutputFormat::Table if contexts.contexts.is_empty() => {
            print_line("no contexts; `liminal context create NAME --server URL` makes one")
        }
        OutputFormat::Table => {
            let rows = contexts.contexts.iter().map(|(name, context)| {
                let auth = match (&context.token_file, &context.client_cert) {
                    (Some(_), Some(_)) => "token, certificate",
                    (Some(_), None) => "token",
                    (None, Some(_)) => "certificate",
                    (None, None) => "-",
                };
                let mark = if is_current(name) { "*" } else { "" };
                vec![mark.to_owned(), name.clone(), context.servers.join(","), auth.to_owned()]
            });
            print_line(&table(&["", "NAME", "SERVERS", "SHOWS"], &[], rows.collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global() -> Global {
        Global {
            context: None,
            server: Vec::new(),
            token_file: None,
            context_token_file: None,
            token: None,
            ca: None,
            client_cert: None,
            client_key: None,
            output: OutputFormat::Table,
        }
    }

    fn context() -> Context {
        Context {
            servers: vec!["https://a:7101".into()],
            ca: Some("/ca".into()),
            client_cert: Some("/cert".into()),
            client_key: Some("/key".into()),
            token_file: Some("/token".into()),
            output: Some(OutputFormat::Json),
        }
    }

    #[test]
    fn a_context_fills_in_what_was_not_given() {
        let mut empty = global();
        fill(&mut empty, &context(), false, true);
        assert_eq!(empty.server, ["https://a:7101"]);
        assert_eq!(empty.context_token_file, Some("/token".into()));
        assert_eq!(empty.output, OutputFormat::Json);
        let mut given = Global { ca: Some("/other".into()), ..global() };
        fill(&mut given, &context(), false, false);
        assert_eq!((given.ca, given.output), (Some("/other".into()), OutputFormat::Table));
    }

    #[test]
    fn credentials_of_a_context_that_nobody_named_stay_away_from_servers_of_others() {
        let elsewhere = || Global { server: vec!["http://b:7101".into()], ..global() };
        let mut unnamed = elsewhere();
        fill(&mut unnamed, &context(), false, true);
        assert_eq!((unnamed.context_token_file, unnamed.client_cert), (None, None));
        let mut named = elsewhere();
        fill(&mut named, &context(), true, true);
        assert_eq!(named.server, ["http://b:7101"]);
        assert_eq!(named.context_token_file, Some("/token".into()));
    }

    #[test]
    fn the_file_is_for_its_owner_alone_and_says_again_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("liminal").join("contexts.toml");
        assert_eq!(Contexts::read(&file).unwrap(), Contexts::default());
        let contexts = Contexts { current: Some("a".into()), contexts: [("a".to_owned(), context())].into() };
        contexts.write(&file).unwrap();
        assert_eq!(Contexts::read(&file).unwrap(), contexts);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
