//! The table that a run of the matrix ends with, ready for `docs/RELIABILITY.md`.

use std::{fmt::Write as _, time::Duration};

use super::check::Verdict;

/// One row, over all of its rounds.
#[derive(Default)]
pub struct Line {
    pub row: String,
    pub rounds: usize,
    pub operations: usize,
    pub acknowledged: usize,
    pub unknown: usize,
    pub lost: usize,
    pub duplicated: usize,
    pub longest_gap: Duration,
    /// What became of the node that was hit, as far as no promise was broken.
    pub outcomes: Vec<String>,
    pub violations: Vec<String>,
}

impl Line {
    pub fn new(row: &str) -> Self {
        Self { row: row.to_owned(), ..Self::default() }
    }

    pub fn add(&mut self, outcome: String, verdict: Verdict) {
        self.rounds += 1;
        self.operations += verdict.operations;
        self.acknowledged += verdict.acknowledged;
        self.unknown += verdict.unknown;
        self.lost += verdict.lost;
        self.duplicated += verdict.duplicated;
        self.longest_gap = self.longest_gap.max(verdict.longest_gap);
        if !self.outcomes.contains(&outcome) {
            self.outcomes.push(outcome);
        }
        self.violations.extend(verdict.violations);
    }

    pub fn failed(&self) -> bool {
        !self.violations.is_empty()
    }
}

pub const HEAD: &str = "| Row | Rounds | Operations | Acknowledged | Unknown | Lost | Duplicated | Longest gap s | Outcome |\n\
                        |---|---|---|---|---|---|---|---|---|";

/// One line of the table.
pub fn line(line: &Line) -> String {
    let mut text = String::new();
    let Line { row, rounds, operations, acknowledged, unknown, lost, duplicated, longest_gap, .. } = line;
    let gap = longest_gap.as_secs_f64();
    let _ = write!(
        text,
        "| {row} | {rounds} | {operations} | {acknowledged} | {unknown} | {lost} | {duplicated} | {gap:.1} | "
    );
    let outcome = match line.violations.first() {
        None => line.outcomes.join("; "),
        Some(first) if line.violations.len() == 1 => format!("**failed**: {first}"),
        Some(first) => format!("**failed**: {first}; {} more", line.violations.len() - 1),
    };
    // In a table, a bar begins a column.
    let _ = write!(text, "{} |", outcome.replace('|', "/"));
    text
}
