//! `docs/ERRORS.md` is made from the table of codes. After a change of the table write it anew, and look at what changed:
//!
//! ```text
//! LIMINAL_WRITE_CATALOGUE=1 cargo test -p liminal-wire the_catalogue
//! ```

use std::{env, fmt::Write as _, fs, path::Path};

use super::{Code, Meaning, Outcome};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/ERRORS.md");
/// Set to anything, it has the test write the file.
const WRITE: &str = "LIMINAL_WRITE_CATALOGUE";
const INTRODUCTION: &str = "\
# Errors

<!-- Made from crates/liminal-wire/src/code/table.rs: change the table, and write this file anew with
     LIMINAL_WRITE_CATALOGUE=1 cargo test -p liminal-wire the_catalogue -->

Every error has a stable code. It is the same over gRPC (`liminal-code`, and the reason of a google.rpc.ErrorInfo), over
HTTP and WebSockets (`code` of the problem), in the clients, and in what the commands say (`code:`, and `error.code` with
`-o json`). Programs should go by the code and not by the message.

**Outcome** says whether what was asked for was done. *Definite*: nothing was done, and nothing will be. *Unknown*: it may
have been done, or may yet be. *Either*: each error says which of the two. An error whose outcome is unknown says so:
`unknown_outcome` over HTTP and in the answers of streams, `outcome_unknown` in the ErrorInfo. Where it is *either* and
unknown, the statuses are those of `OUTCOME_UNKNOWN`.

**Retry** says whether the same request may succeed later. *Yes*: repeat it unchanged, with the same idempotency key, after
a pause (`retry_after_ms`, where the error names one); a key makes that safe whatever the outcome was. *No*: the
same request fails again until something changes.

**Exit** is the exit code of a command that ends with the error. Commands also exit with 10 when what they look at is not
healthy. A dash stands where a face never says the code. An error that the HTTP library finds keeps that library's
status.
";

fn catalogue() -> String {
    let mut text = INTRODUCTION.to_owned();
    let mut group = "";
    for row in Code::ALL.iter().map(Code::meaning) {
        if row.group != group {
            group = row.group;
            let _ = write!(text, "\n## {group}\n\n{HEAD}"); // a string takes all
        }
        text += &line(row);
    }
    text
}

const HEAD: &str = "\
| Code | gRPC | HTTP | Outcome | Retry | Exit | Meaning | Next step |
|---|---|---|---|---|---|---|---|
";

fn line(row: &Meaning) -> String {
    let Meaning { code, meaning, next, outcome, retry, exit, .. } = row;
    let grpc = row.grpc.map_or("-".to_owned(), |status| format!("`{}`", screaming(&format!("{status:?}"))));
    let http = row.http.map_or("-".to_owned(), |status| status.to_string());
    let outcome = match outcome {
        Outcome::Definite => "definite",
        Outcome::Unknown => "unknown",
        Outcome::Either => "either",
    };
    let retry = if *retry { "yes" } else { "no" };
    format!("| `{code}` | {grpc} | {http} | {outcome} | {retry} | {exit} | {meaning} | {next} |\n")
}

/// The name of a gRPC status as the gRPC documents write it.
fn screaming(camel: &str) -> String {
    let mut text = String::new();
    for (at, letter) in camel.char_indices() {
        if at > 0 && letter.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text
}

#[test]
fn the_catalogue_in_the_documents_is_what_the_table_says() {
    let made = catalogue();
    if env::var_os(WRITE).is_some() {
        fs::write(FILE, &made).unwrap();
    }
    let written = fs::read_to_string(Path::new(FILE)).unwrap_or_default();
    assert!(
        written == made,
        "{FILE} is not what the table says: write it anew with {WRITE}=1, and look at what changed"
    );
}
