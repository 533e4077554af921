//! Documents that are written from the code, and the test that they still say what the code says. A document that differs
//! fails its test, which names the first line that differs and the command that writes the document again.

use std::{env, fs, path::Path};

/// The command that writes all of them.
const COMMAND: &str = "UPDATE_DOCS=1 cargo test --lib generated";

/// What stands at the top of such a document, below its title.
pub(crate) fn notice() -> String {
    format!("<!-- Written from the code. Change the code, then run `{COMMAND}`. -->\n")
}

/// Holds a document to what the code says, or writes it when `UPDATE_DOCS` is set. The path is relative to the package.
pub(crate) fn hold(path: &str, generated: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, generated).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        return;
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    if written == generated {
        return;
    }
    let mut lines = (1..).zip(written.lines().map(Some).chain([None]).zip(generated.lines().map(Some).chain([None])));
    let (line, (has, wants)) = lines.find(|(_, (has, wants))| has != wants).unwrap_or((1, (None, None)));
    let (has, wants) = (has.unwrap_or("the end of the file"), wants.unwrap_or("the end of the file"));
    panic!("{path}:{line} differs from the code\n  file: {has}\n  code: {wants}\nRun `{COMMAND}` and commit the file.");
}
