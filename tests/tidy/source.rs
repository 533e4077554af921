//! The files of the repository as the other modules look at them: which ones there are, and which of their lines are code
//! of the product and not of its tests.

use std::{fs, path::Path};

/// Directories that hold nothing of ours, and patches, which stand in for packages of others.
const PASSED_OVER: [&str; 4] = [".git", "target", "patches", "proptest-regressions"];

/// A text file.
pub struct File {
    /// Relative to the repository, with `/` between its parts.
    pub path: String,
    pub text: String,
}

/// All files below a directory of the repository whose name ends like this, in the order of their paths.
pub fn files(below: &str, ends: &[&str]) -> Vec<File> {
    let mut found = Vec::new();
    walk(below, ends, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn walk(dir: &str, ends: &[&str], found: &mut Vec<File>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for entry in fs::read_dir(root.join(dir)).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let path = if dir.is_empty() { name.clone() } else { format!("{dir}/{name}") };
        if entry.file_type().unwrap().is_dir() {
            if !PASSED_OVER.contains(&name.as_str()) {
                walk(&path, ends, found);
            }
        } else if ends.iter().any(|end| name.ends_with(end)) {
            let text = fs::read_to_string(entry.path()).unwrap_or_else(|error| panic!("{path}: {error}"));
            found.push(File { path, text });
        }
    }
}

/// One file.
pub fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

impl File {
    /// Whether all of it is for tests.
    pub fn is_of_tests(&self) -> bool {
        self.path.split('/').any(|part| matches!(part, "tests" | "tests.rs"))
    }

    /// The text without the module of tests at its end.
    pub fn product(&self) -> &str {
        match self.text.find("\n#[cfg(test)]\nmod tests {") {
            Some(end) => &self.text[..=end],
            None => &self.text,
        }
    }

    /// The product's lines with their numbers, without comments.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.product().lines().map(without_comment))
    }
}

fn without_comment(line: &str) -> &str {
    match line.find("//") {
        // `https://` is no comment.
        Some(at) if !line[..at].ends_with(':') => &line[..at],
        _ => line,
    }
}
