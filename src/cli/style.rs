//! Colours and weights, for terminals only: where the output goes into a file or a pipe, or NO_COLOR is set, text stays plain.

use std::{
    io::{self, IsTerminal as _},
    sync::OnceLock,
};

/// Which of standard output and standard error show colours. Neither does before [`choose`] has looked, so that what tests
/// compare does not depend on where they run.
static SHOWN: OnceLock<(bool, bool)> = OnceLock::new();

/// Looks whether the outputs of this process are terminals.
pub(super) fn choose() {
    SHOWN.get_or_init(|| (is_wanted(io::stdout().is_terminal()), is_wanted(io::stderr().is_terminal())));
}

fn shown() -> (bool, bool) {
    SHOWN.get().copied().unwrap_or_default()
}

/// How a text stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Bold,
    Red,
    Yellow,
    Green,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Red => "1;31",
            Self::Yellow => "33",
            Self::Green => "32",
        }
    }

    /// The text with the escape codes around it.
    fn around(self, text: &str) -> String {
        format!("\x1b[{}m{text}\x1b[0m", self.code())
    }

    /// The text as standard output shows it.
    pub(super) fn on_stdout(self, text: &str) -> String {
        if shown().0 { self.around(text) } else { text.to_owned() }
    }

    /// The text as standard error shows it.
    pub(super) fn on_stderr(self, text: &str) -> String {
        if shown().1 { self.around(text) } else { text.to_owned() }
    }
}

/// As <https://no-color.org> has it: the variable counts when it is not empty.
fn is_wanted(terminal: bool) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    terminal && !refused && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// A table with its first line in bold.
pub(super) fn with_header(table: &str) -> String {
    match table.split_once('\n') {
        Some((header, rows)) => format!("{}\n{rows}", Style::Bold.on_stdout(header)),
        None => Style::Bold.on_stdout(table),
    }
}

/// A text in which some words have colours. They are put in after the columns were made, which count characters.
pub(super) fn with_words(text: &str, words: &[(&str, Style)]) -> String {
    if shown().0 { painted(text, words) } else { text.to_owned() }
}

fn painted(text: &str, words: &[(&str, Style)]) -> String {
    let each = text.split_inclusive(char::is_whitespace).map(|part| {
        let word = part.trim_end();
        match words.iter().find(|(wanted, _)| *wanted == word) {
            Some((_, style)) => format!("{}{}", style.around(word), &part[word.len()..]),
            None => part.to_owned(),
        }
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_get_colours_and_everything_else_stays() {
        let words = [("ok", Style::Green), ("failed", Style::Red)];
        assert_eq!(
            painted("n1  ok\nn2  failed  ok-ish\n", &words),
            "n1  \x1b[32mok\x1b[0m\nn2  \x1b[1;31mfailed\x1b[0m  ok-ish\n"
        );
    }
}
