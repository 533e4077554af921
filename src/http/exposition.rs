//! The metrics as text, in the two formats that Prometheus reads. They differ in the name of a counter, which in OpenMetrics
//! is that of its values without `_total`, in the end, which only OpenMetrics marks, and in exemplars, which only OpenMetrics
//! has.

use std::fmt::{self, Write as _};

use super::metrics::{Labels, Metric, MetricKind, Value};
use crate::meter::{BOUNDS_MICROS, Reading};

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// The older text format, which is what a reader gets that does not ask for OpenMetrics.
    Plain,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What a reader gets that accepts these kinds.
    pub(super) fn accepted<'a>(mut kinds: impl Iterator<Item = &'a str>) -> Self {
        if kinds.any(names_open_metrics) { Self::OpenMetrics } else { Self::Plain }
    }
}

fn names_open_metrics(kind: &str) -> bool {
    let mut parts = kind.split(';').map(str::trim);
    let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("application/openmetrics-text"));
    named && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
}

pub(super) fn encode(metrics: &[Metric], format: Format) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = metrics.iter().try_for_each(|metric| write_metric(&mut out, metric, format));
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

fn write_metric(out: &mut String, Metric { declared, values }: &Metric, format: Format) -> fmt::Result {
    let name = declared.exposed();
    let family = match (declared.kind, format) {
        (MetricKind::Counter, Format::OpenMetrics) => name.trim_end_matches("_total"),
        _ => &name,
    };
    writeln!(out, "# HELP {family} {}", Escaped(declared.help))?;
    writeln!(out, "# TYPE {family} {}", declared.kind.name())?;
    for (labels, value) in values {
        match value {
            Value::Number(number) => writeln!(out, "{name}{} {number}", Set(labels, None))?,
            Value::Decimal(number) => writeln!(out, "{name}{} {number}", Set(labels, None))?,
            Value::Times(times) => write_histogram(out, &name, labels, times, format)?,
        }
    }
    Ok(())
}

fn write_histogram(out: &mut String, name: &str, labels: &Labels, times: &Reading, format: Format) -> fmt::Result {
    let bounds = BOUNDS_MICROS.iter().map(|bound| Seconds(u128::from(*bound) * 1_000).to_string());
    let mut count = 0;
    for (bucket, (bound, of_bucket)) in bounds.chain(["+Inf".to_owned()]).zip(times.counts).enumerate() {
        count += of_bucket;
        write!(out, "{name}_bucket{} {count}", Set(labels, Some(&bound)))?;
        let exemplar = times.exemplars.iter().find(|(of, _)| *of == bucket);
        if let Some((_, exemplar)) = exemplar.filter(|_| format == Format::OpenMetrics) {
            let (took, at) = (Seconds(exemplar.took.as_nanos()), Seconds(u128::from(exemplar.at_ms) * 1_000_000));
            write!(out, " # {{trace_id=\"{}\"}} {took} {at}", Escaped(&exemplar.trace_id))?;
        }
        out.push('\n');
    }
    writeln!(out, "{name}_sum{} {}", Set(labels, None), Seconds(times.sum.as_nanos()))?;
    writeln!(out, "{name}_count{} {count}", Set(labels, None))
}

/// Nanoseconds, written as seconds.
struct Seconds(u128);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        let rest = format!("{rest:09}");
        let rest = rest.trim_end_matches('0');
        write!(f, "{whole}.{}", if rest.is_empty() { "0" } else { rest })
    }
}

/// Labels in braces, with the upper bound of a bucket where there is one; nothing where there is none of both.
struct Set<'a>(&'a Labels, Option<&'a str>);

impl fmt::Display for Set<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = self.0.iter().map(|(name, value)| (*name, value.as_str()));
        let mut before = "{";
        for (name, value) in own.chain(self.1.map(|bound| ("le", bound))) {
            write!(f, "{before}{name}=\"{}\"", Escaped(value))?;
            before = ",";
        }
        if before == "," { f.write_str("}") } else { Ok(()) }
    }
}

/// A text as both formats take it in the value of a label, and in a help text, where none of ours has a quote.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::metrics::{self, ALL},
        *,
    };
    use crate::meter::{BUCKETS, Exemplar, Histogram};

    fn holds(text: &str, lines: &[&str]) {
        for line in lines {
            assert!(text.lines().any(|known| known == *line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_counter_is_named_after_its_values_in_the_older_format_and_without_total_in_openmetrics() {
        let metrics = [metrics::READY.of(1), metrics::PUBLISHED_MESSAGES.of(7)];
        let plain = encode(&metrics, Format::Plain);
        holds(
            &plain,
            &[
                "# TYPE liminal_ready gauge",
                "liminal_ready 1",
                "# HELP liminal_published_messages_total Messages acknowledged to clients of this node",
                "# TYPE liminal_published_messages_total counter",
                "liminal_published_messages_total 7",
            ],
        );
        assert!(!plain.contains("EOF"), "{plain}");
        let open = encode(&metrics, Format::OpenMetrics);
        holds(&open, &["# TYPE liminal_published_messages counter", "liminal_published_messages_total 7"]);
        assert!(open.ends_with("\n# EOF\n"), "{open}");
    }

    #[test]
    fn the_buckets_of_a_histogram_add_up_to_its_count_in_both_formats() {
        let histogram = Histogram::default();
        for micros in [40, 50, 60, 1_000_000, 20_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let metric = [metrics::LOG_SYNC_SECONDS.of_times(Some(histogram.read()))];
        for format in [Format::Plain, Format::OpenMetrics] {
            let text = encode(&metric, format);
            holds(
                &text,
                &[
                    "# TYPE liminal_log_sync_seconds histogram",
                    r#"liminal_log_sync_seconds_bucket{le="0.00005"} 2"#,
                    r#"liminal_log_sync_seconds_bucket{le="0.0001"} 3"#,
                    r#"liminal_log_sync_seconds_bucket{le="0.5"} 3"#,
                    r#"liminal_log_sync_seconds_bucket{le="1.0"} 4"#,
                    r#"liminal_log_sync_seconds_bucket{le="10.0"} 4"#,
                    r#"liminal_log_sync_seconds_bucket{le="+Inf"} 5"#,
                    "liminal_log_sync_seconds_sum 21.00015",
                    "liminal_log_sync_seconds_count 5",
                ],
            );
            assert_eq!(text.matches("_bucket{").count(), BUCKETS, "{text}");
        }
    }

    #[test]
    fn only_openmetrics_has_the_exemplar_of_a_bucket() {
        let exemplar = Exemplar { trace_id: "4bf9".into(), took: Duration::from_micros(70), at_ms: 1_700_000_000_250 };
        let times = Reading { exemplars: vec![(1, exemplar)], ..Reading::default() };
        let metric = [metrics::PUBLISH_SECONDS.each_times(vec![(vec![("confirm", "commit".into())], times)])];
        let bucket = r#"liminal_publish_seconds_bucket{confirm="commit",le="0.0001"} 0"#;
        let open = encode(&metric, Format::OpenMetrics);
        holds(&open, &[&format!(r#"{bucket} # {{trace_id="4bf9"}} 0.00007 1700000000.25"#)]);
        assert_eq!(open.matches("trace_id").count(), 1, "{open}");
        holds(&encode(&metric, Format::Plain), &[bucket]);
    }

    #[test]
    fn values_of_labels_are_escaped_and_numbers_are_written_in_full() {
        let label = vec![(vec![("channel", "a\"b\\c\nd".into())], 3)];
        let metrics = [metrics::CHANNEL_BYTES.each(label), metrics::PROCESS_CPU_SECONDS.of_decimal(0.25)];
        holds(
            &encode(&metrics, Format::Plain),
            &[r#"liminal_channel_bytes{channel="a\"b\\c\nd"} 3"#, "liminal_process_cpu_seconds_total 0.25"],
        );
    }

    #[test]
    fn help_texts_need_no_escape_that_the_older_format_does_not_know() {
        for declared in ALL {
            assert!(!declared.help.contains(['"', '\\', '\n']), "{}", declared.name);
        }
    }

    #[test]
    fn a_reader_gets_the_format_that_it_asks_for() {
        let accepted = |header: &'static str| Format::accepted(header.split(','));
        assert_eq!(accepted("application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1"), Format::OpenMetrics);
        for header in ["text/plain;version=0.0.4", "*/*", "application/openmetrics-text; q=0"] {
            assert_eq!(accepted(header), Format::Plain, "{header}");
        }
    }
}
