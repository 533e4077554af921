//! Figures, their medians over the rounds, and the ratios.

use std::{collections::BTreeMap, fmt, fs};

use serde::Deserialize;

/// What one measurement gives, for either system.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Figures {
    /// Messages a second: acknowledged, delivered or read.
    pub(crate) rate: f64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    pub(crate) server_cpu_s_per_million: Option<f64>,
    pub(crate) errors: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate, p50_us, p99_us, p999_us, server_cpu_s_per_million, errors } = self;
        let cpu = server_cpu_s_per_million.unwrap_or(f64::NAN);
        write!(f, "{rate:.0}/s, p50 {p50_us} p99 {p99_us} p99.9 {p999_us} us, cpu {cpu:.1}, errors {errors}")
    }
}

/// CPU seconds of processes so far.
pub(crate) fn cpu_seconds(pids: &[u32]) -> f64 {
    let of = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        Some(fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?)
    };
    pids.iter().filter_map(of).sum::<f64>() / rustix::param::clock_ticks_per_second() as f64
}

/// All figures of a run, by row and system, in the order in which they came.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<(String, BTreeMap<&'static str, Vec<Figures>>)>,
}

impl Report {
    pub(crate) fn add(&mut self, row: &str, system: &'static str, figures: Figures) {
        let at = self.rows.iter().position(|(name, _)| name == row).unwrap_or_else(|| {
            self.rows.push((row.to_owned(), BTreeMap::new()));
            self.rows.len() - 1
        });
        self.rows[at].1.entry(system).or_default().push(figures);
    }
}

/// Median and range.
fn spread(figures: &[Figures], of: impl Fn(&Figures) -> f64) -> (f64, f64, f64) {
    let mut values: Vec<f64> = figures.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let median =
        if values.len().is_multiple_of(2) { (values[middle - 1] + values[middle]) / 2.0 } else { values[middle] };
    (median, values[0], values[values.len() - 1])
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| Work | System | Rate/s | Ratio | p50 ms | p99 ms | p99.9 ms | Server CPU s per million |")?;
        writeln!(f, "|---|---|---|---|---|---|---|---|")?;
        for (row, systems) in &self.rows {
            let ours = systems.get("liminal").map(|figures| spread(figures, |figures| figures.rate).0);
            for (system, figures) in systems {
                let (rate, low, high) = spread(figures, |figures| figures.rate);
                let ratio = match ours {
                    Some(ours) if *system != "liminal" => format!("{:.2}x", ours / rate),
                    _ => String::new(),
                };
                let ms = |of: fn(&Figures) -> u64| spread(figures, |figures| of(figures) as f64 / 1000.0).0;
                let cpu = spread(figures, |figures| figures.server_cpu_s_per_million.unwrap_or(f64::NAN)).0;
                let (p50, p99, p999) = (ms(|f| f.p50_us), ms(|f| f.p99_us), ms(|f| f.p999_us));
                writeln!(
                    f,
                    "| {row} | {system} | {rate:.0} ({low:.0}-{high:.0}) | {ratio} | {p50:.2} | {p99:.2} | {p999:.2} | {cpu:.1} |"
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_of_the_medians() {
        let mut report = Report::default();
        for rate in [1.0, 30.0, 20.0] {
            report.add("row", "liminal", Figures { rate, ..Figures::default() });
        }
        report.add("row", "nats", Figures { rate: 10.0, ..Figures::default() });
        let text = report.to_string();
        assert!(text.contains("| row | liminal | 20 (1-30) |"), "{text}");
        assert!(text.contains("| row | nats | 10 (10-10) | 2.00x |"), "{text}");
    }
}
