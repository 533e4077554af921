//! The effective configuration as a file that can be loaded again, with the origin of everything that is not a
//! default.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use super::{ServerConfig, fields, reader::Visitor, tree::Origin};

/// What stands in the place of a secret.
const REDACTED: &str = "<redacted>";

/// Where the values of a configuration come from, by their whole key.
#[derive(Clone, Debug, Default)]
pub struct Origins(pub(super) BTreeMap<String, Origin>);

impl Origins {
    /// For people: the file, the variable or the flag; none for a default.
    pub fn of(&self, key: &str) -> Option<String> {
        self.0.get(key).map(|origin| match origin {
            Origin::File { .. } => "file".to_owned(),
            other => other.to_string(),
        })
    }
}

/// Writes the fields of one table after another.
struct Writer<'a> {
    prefix: String,
    origins: &'a Origins,
    lines: String,
    tables: Vec<(String, String)>,
}

impl Writer<'_> {
    fn line(&mut self, key: &str, value: &str) {
        let whole = if self.prefix.is_empty() { key.to_owned() } else { format!("{}.{key}", self.prefix) };
        // Writing to a String cannot fail.
        let _ = match self.origins.of(&whole) {
            Some(origin) => writeln!(self.lines, "{key} = {value}  # {origin}"),
            None => writeln!(self.lines, "{key} = {value}"),
        };
    }
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn list(texts: &[String]) -> String {
    toml::Value::from(texts.to_vec()).to_string()
}

impl Visitor for Writer<'_> {
    fn table(&mut self, key: &'static str, fields: &mut dyn FnMut(&mut dyn Visitor)) {
        let mut table = Writer { prefix: key.into(), origins: self.origins, lines: String::new(), tables: Vec::new() };
        fields(&mut table);
        self.tables.push((key.into(), table.lines));
    }

    fn text(&mut self, key: &'static str, field: &mut String) {
        self.line(key, &quoted(field));
    }

    fn optional(&mut self, key: &'static str, field: &mut Option<String>) {
        if let Some(text) = field {
            self.line(key, &quoted(text));
        }
    }

    fn address(&mut self, key: &'static str, field: &mut String) {
        self.line(key, &quoted(field));
    }

    fn optional_address(&mut self, key: &'static str, field: &mut Option<String>) {
        self.optional(key, field);
    }

    fn count(&mut self, key: &'static str, field: &mut u64) {
        self.line(key, &field.to_string());
    }

    fn optional_count(&mut self, key: &'static str, field: &mut Option<u64>) {
        match field {
            Some(number) => self.count(key, number),
            None => self.line(key, &quoted("off")),
        }
    }

    fn size(&mut self, key: &'static str, field: &mut usize) {
        let bytes = *field as u64;
        let units = [(bytesize::GIB, "GiB"), (bytesize::MIB, "MiB"), (bytesize::KIB, "KiB")];
        let value = match units.iter().find(|(unit, _)| bytes.is_multiple_of(*unit)) {
            Some((unit, name)) => quoted(&format!("{}{name}", bytes / unit)),
            None => bytes.to_string(),
        };
        self.line(key, &value);
    }

    fn duration(&mut self, key: &'static str, field: &mut Duration) {
        self.line(key, &quoted(&humantime::format_duration(*field).to_string()));
    }

    fn optional_duration(&mut self, key: &'static str, field: &mut Option<Duration>) {
        match field {
            Some(span) => self.duration(key, span),
            None => self.line(key, &quoted("off")),
        }
    }

    fn boolean(&mut self, key: &'static str, field: &mut bool) {
        self.line(key, &field.to_string());
    }

    fn milliseconds(&mut self, key: &'static str, field: &mut Duration) {
        self.line(key, &field.as_millis().to_string());
    }

    fn texts(&mut self, key: &'static str, field: &mut Vec<String>) {
        self.line(key, &list(field));
    }
}

impl ServerConfig {
    /// The configuration as TOML, with every key and the origins of what is not a default. The cookie is left out.
    pub fn show(&self, origins: &Origins) -> String {
        let mut config = self.clone();
        let mut writer = Writer { prefix: String::new(), origins, lines: String::new(), tables: Vec::new() };
        fields::server(&mut config, &mut writer);
        if let Some(path) = &self.persistence_path {
            writer.line("persistence_path", &quoted(&path.display().to_string()));
        }
        if let Some(cluster) = &mut config.cluster {
            let expect = cluster.expect.to_string();
            writer.table("cluster", &mut |v| fields::cluster(cluster, v));
            if let Some((_, lines)) = writer.tables.last_mut() {
                let _ = match &cluster.cookie_file {
                    Some(file) => writeln!(lines, "cookie_file = {}", quoted(&file.display().to_string())),
                    None => writeln!(lines, "cookie = {}", quoted(REDACTED)),
                };
                let _ = writeln!(lines, "expect = {expect}");
            }
        }
        let mut text = writer.lines;
        for (name, lines) in writer.tables {
            let _ = write!(text, "\n[{name}]\n{lines}");
        }
        for channel in &self.channels {
            let _ = write!(text, "\n[[channels]]\nname = {}\n", quoted(&channel.name));
            if let Some(schema_ref) = &channel.schema_ref {
                let _ = writeln!(text, "schema_ref = {}", quoted(schema_ref));
            }
            let _ = writeln!(text, "durable = {}", channel.durable);
        }
        for rule in &self.routing_rules {
            let (source, target) = (quoted(&rule.source_channel), quoted(&rule.target_channel));
            let _ = write!(text, "\n[[routing_rules]]\nsource_channel = {source}\ntarget_channel = {target}\n");
            if let Some(predicate) = &rule.predicate {
                let _ = writeln!(text, "predicate = {}", quoted(predicate));
            }
        }
        text
    }
}
