//! Schemas that are short and take long.

use super::Target;
use crate::raw::{code, http};

/// Each definition applies the next one twice.
fn doubling_schema(by: &str) -> String {
    let reference = |number: usize| match by {
        "anchor" => format!("#a{number}"),
        "id" => format!("http://example.com/s{number}"),
        _ => format!("#/%24defs/d{number}"),
    };
    let name = |number: usize| match by {
        "anchor" => format!(r#""$anchor":"a{number}","#),
        "id" => format!(r#""$id":"http://example.com/s{number}","#),
        _ => String::new(),
    };
    let definition = |number: usize| {
        let next = reference(number + 1);
        let body = if number == 44 { "true".to_owned() } else { format!(r#"{{"$ref":"{next}"}},{{"$ref":"{next}"}}"#) };
        format!(r#""d{number}":{{{}"allOf":[{body}]}}"#, name(number))
    };
    let definitions: Vec<String> = (0..45).map(definition).collect();
    format!(r#"{{"$defs":{{{}}},"$ref":"{}"}}"#, definitions.join(","), reference(0))
}

/// Makes a channel with a schema and publishes to it; what either of them is told.
async fn publish(target: &Target, name: &str, schema: &str, payload: &str) -> String {
    let body = format!(r#"{{"schema":{schema}}}"#);
    let made = http(target.http(), "PUT", &format!("/v1/channels/{name}"), "", body.as_bytes()).await;
    if made.0 != 200 {
        return code(&made);
    }
    code(&http(target.http(), "POST", &format!("/v1/channels/{name}/messages"), "", payload.as_bytes()).await)
}

pub async fn doubling(target: Target, by: &'static str) -> String {
    let told = publish(&target, &format!("doubling-{by}"), &doubling_schema(by), "1").await;
    assert_ne!(told, "200", "two to the power of 45 steps");
    told
}

pub async fn recursion(target: Target) -> String {
    let schema = r##"{"properties":{"a":{"anyOf":[{"$ref":"#"},{"$ref":"#"}]},"b":false}}"##;
    let payload = format!("{}{}{}", r#"{"a":"#.repeat(20), r#"{"b":1}"#, "}".repeat(20));
    publish(&target, "recursion", schema, &payload).await
}

pub async fn violations(target: Target) -> String {
    let small: Vec<String> = (0..1_200).map(|number| format!(r#"{{"minimum":{}}}"#, number + 2)).collect();
    let schema = format!(r#"{{"items":{{"allOf":[{}]}}}}"#, small.join(","));
    let payload = format!("[{}]", vec!["1"; 5_000].join(","));
    publish(&target, "violations", &schema, &payload).await
}

pub async fn validate(target: Target) -> String {
    http(target.http(), "PUT", "/v1/channels/plain", "", b"").await;
    http(target.http(), "POST", "/v1/channels/plain/messages", "", b"1").await;
    let schema = doubling_schema("anchor");
    let answer = http(target.http(), "POST", "/v1/channels/plain/schema/validate", "", schema.as_bytes()).await;
    assert_ne!(answer.0, 0, "an answer in time");
    code(&answer)
}
