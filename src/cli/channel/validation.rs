//! What a new schema would mean for a channel: whether it could take the place of the one there is, and whether the
//! stored messages fit it.

use std::time::SystemTime;

use serde_json::json;

use super::{CliError, From, Global, OutputFormat, connect, on_the_wire, print_json, print_line, table, thousands};
use crate::{
    client::{HistoryReport, InvalidMessage, Start},
    model::{SchemaJson, timestamp},
    proto::v1::SchemaVersion,
};

/// Messages that are shown.
const SAMPLES: usize = 20;

/// `update --dry-run`.
pub(super) async fn compare(name: &str, schema: &str, global: &Global) -> Result<(), CliError> {
    let places = connect(global).await?.compare_schema(name, schema.to_owned()).await?;
    match global.output {
        OutputFormat::Json => {
            print_json(&json!({ "name": name, "compatible": places.is_empty(), "incompatibilities": places }))?;
        }
        OutputFormat::Raw => places.iter().try_for_each(|place| print_line(&place.pointer))?,
        OutputFormat::Table => {
            print_line(if places.is_empty() { "compatible" } else { "not compatible" })?;
            places
                .iter()
                .try_for_each(|place| print_line(&format!("  {}: {}", shown(&place.pointer), place.message)))?;
        }
    }
    if places.is_empty() { Ok(()) } else { Err(CliError::exit(1)) }
}

/// `schemas`: with `-o json` their texts too.
pub(super) async fn schemas(name: &str, global: &Global) -> Result<(), CliError> {
    let schemas: Vec<SchemaVersion> = on_the_wire(connect(global).await?.schemas(name).await?);
    match global.output {
        OutputFormat::Json => schemas.iter().try_for_each(|schema| print_json(&SchemaJson::of(schema))),
        OutputFormat::Raw => schemas.iter().try_for_each(|schema| print_line(&schema.schema)),
        OutputFormat::Table => {
            let row = |schema: &SchemaVersion| {
                let bytes = thousands(schema.schema.len() as u64);
                vec![schema.version.to_string(), schema.id.to_string(), timestamp(schema.time_ms), bytes]
            };
            let rows = schemas.iter().map(row).collect();
            print_line(&table(&["VERSION", "ID", "CREATED", "BYTES"], &[0, 1, 3], rows))
        }
    }
}

/// `validate`.
pub(super) async fn history(
    name: &str,
    schema: &str,
    from: From,
    limit: Option<u64>,
    global: &Global,
) -> Result<(), CliError> {
    let client = connect(global).await?;
    let mut whole = client.validate_history(name, schema, from.start(SystemTime::now()), limit.unwrap_or(0)).await?;
    // What comes meanwhile is not waited for, or a busy channel would never be done.
    while whole.next_seq < whole.end_seq && limit.is_none_or(|limit| whole.checked < limit) {
        let left = limit.map_or(0, |limit| limit - whole.checked);
        let next = client.validate_history(name, schema, Start::Seq(whole.next_seq), left).await?;
        if next.next_seq <= whole.next_seq {
            break;
        }
        whole.checked += next.checked;
        whole.invalid += next.invalid;
        whole.next_seq = next.next_seq;
        whole.samples.extend(next.samples);
        whole.samples.truncate(SAMPLES);
    }
    report(name, &whole, global)?;
    if whole.invalid == 0 { Ok(()) } else { Err(CliError::exit(1)) }
}

fn report(name: &str, whole: &HistoryReport, global: &Global) -> Result<(), CliError> {
    match global.output {
        OutputFormat::Json => {
            let samples: Vec<_> = whole.samples.iter().map(sample).collect();
            print_json(&json!({
                "name": name,
                "checked": whole.checked,
                "invalid": whole.invalid,
                "first_seq": whole.first_seq,
                "next_seq": whole.next_seq,
                "samples": samples,
            }))
        }
        OutputFormat::Raw => whole.samples.iter().try_for_each(|message| print_line(&message.seq.to_string())),
        OutputFormat::Table => {
            let (checked, invalid) = (thousands(whole.checked), thousands(whole.invalid));
            print_line(&format!(
                "{name}@{}..{}  {checked} checked  {invalid} invalid",
                whole.first_seq, whole.next_seq
            ))?;
            for message in &whole.samples {
                for place in &message.violations {
                    print_line(&format!("  @{} {}: {}", message.seq, shown(&place.pointer), place.message))?;
                }
            }
            Ok(())
        }
    }
}

fn sample(message: &InvalidMessage) -> serde_json::Value {
    let places = message.violations.iter();
    let places: Vec<_> = places.map(|place| json!({ "pointer": place.pointer, "message": place.message })).collect();
    json!({ "seq": message.seq, "violations": places })
}

/// The empty pointer is the whole of it.
fn shown(pointer: &str) -> &str {
    if pointer.is_empty() { "(all of it)" } else { pointer }
}
