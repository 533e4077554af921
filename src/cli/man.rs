//! `liminal man`: manual pages, written from what `--help` is made of.

use std::{fs, path::PathBuf};

use clap::{Command, ValueHint};

use super::{
    CliError, Global, OutputFormat, command_line,
    remote::{print_json, print_line},
};

/// What `man` takes.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The directory to write them to, for example /usr/local/share/man/man1; it is made if it is missing
    #[arg(value_hint = ValueHint::DirPath)]
    dir: PathBuf,
}

/// Runs the command.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), CliError> {
    let failed = |error| CliError::failed(format!("cannot write manual pages to {}: {error}", args.dir.display()));
    fs::create_dir_all(&args.dir).map_err(failed)?;
    let mut root = command_line();
    root.build();
    let mut pages = Vec::new();
    render(&root, "liminal", &mut pages).map_err(failed)?;
    for (name, page) in &pages {
        fs::write(args.dir.join(format!("{name}.1")), page).map_err(failed)?;
    }
    match global.output {
        OutputFormat::Json => {
            print_json(&serde_json::json!({ "directory": args.dir.to_string_lossy(), "pages": pages.len() }))
        }
        OutputFormat::Raw => pages.iter().try_for_each(|(name, _)| print_line(&format!("{name}.1"))),
        OutputFormat::Table => {
            print_line(&format!("{} page(s) in {}; `man liminal` begins", pages.len(), args.dir.display()))
        }
    }
}

/// The pages of a command and of those below it, each under its name.
fn render(command: &Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) -> std::io::Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone().name(name.to_owned()).display_name(name.to_owned())).render(&mut page)?;
    pages.push((name.to_owned(), page));
    let below = command.get_subcommands().filter(|below| below.get_name() != "help" && !below.is_hide_set());
    for below in below {
        render(below, &format!("{name}-{}", below.get_name()), pages)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_examples() {
        let mut root = command_line();
        root.build();
        let mut pages = Vec::new();
        render(&root, "liminal", &mut pages).unwrap();
        let page = |name: &str| {
            let (_, page) = pages.iter().find(|(known, _)| known == name).unwrap();
            String::from_utf8_lossy(page).into_owned()
        };
        assert!(page("liminal").contains("publish"));
        let create = page("liminal-channel-create");
        assert!(create.contains("Examples") && create.contains("liminal channel create jobs"), "{create}");
    }
}
