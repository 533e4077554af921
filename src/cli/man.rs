//! `liminal man`: manual pages, written from what `--help` is made of.

use std::{fs, path::PathBuf};

use clap::{Command, ValueHint};
use clap_mangen::Man;

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
    let pages = pages().map_err(failed)?;
    for (name, page) in &pages {
        fs::write(args.dir.join(name), page).map_err(failed)?;
    }
    match global.output {
        OutputFormat::Json => {
            print_json(&serde_json::json!({ "directory": args.dir.to_string_lossy(), "pages": pages.len() }))
        }
        OutputFormat::Raw => pages.iter().try_for_each(|(name, _)| print_line(name)),
        OutputFormat::Table => {
            print_line(&format!("{} page(s) in {}; `man liminal` begins", pages.len(), args.dir.display()))
        }
    }
}

/// The pages of all commands, each under the name of its file.
fn pages() -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let mut root = command_line().disable_help_subcommand(true);
    // Only then commands know what they are called in full.
    root.build();
    let mut pages = Vec::new();
    render(&root, &mut pages)?;
    Ok(pages)
}

fn render(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> std::io::Result<()> {
    let (man, mut page) = (Man::new(command.clone()), Vec::new());
    man.render(&mut page)?;
    pages.push((man.get_filename(), page));
    command.get_subcommands().filter(|below| !below.is_hide_set()).try_for_each(|below| render(below, pages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_examples() {
        let pages = pages().unwrap();
        let page = |name: &str| {
            let (_, page) = pages.iter().find(|(known, _)| known == name).unwrap();
            String::from_utf8_lossy(page).into_owned()
        };
        assert!(page("liminal.1").contains("publish"));
        let create = page("liminal-channel-create.1");
        assert!(create.contains("Examples") && create.contains("liminal channel create jobs"), "{create}");
    }
}
