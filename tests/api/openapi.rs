//! The OpenAPI document says what a node really takes and answers: it is read from the node and held against it.

use std::collections::BTreeSet;

use liminal::{model::Limits, node::Node};
use serde_json::{Value, json};

use super::{
    http::{Answer, open, request, until},
    node,
};

/// The document, and the node that has to be as it says.
struct Described {
    node: Node,
    document: Value,
    /// Its components, where no answer may have a field that is not described.
    strict: Value,
}

impl Described {
    async fn start() -> Self {
        let node = node(Limits::default()).await;
        let answer = request(node.http_address(), "GET", "/v1/openapi.json", &[], "").await;
        assert_eq!(answer.status, 200);
        let document = answer.json();
        let mut strict = document["components"].clone();
        close(&mut strict["schemas"]);
        Self { node, document, strict }
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => self.document.pointer(&reference[1..]).unwrap_or_else(|| panic!("{reference}")),
            None => value,
        }
    }

    /// Every operation: path, method and what is said of it.
    fn operations(&self) -> impl Iterator<Item = (&str, String, &Value)> {
        let paths = self.document["paths"].as_object().unwrap();
        paths.iter().flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap();
            methods.iter().map(|(method, operation)| (path.as_str(), method.to_uppercase(), operation))
        })
    }

    fn errors(&self, schema: &Value, value: &Value) -> Vec<String> {
        let schema = json!({ "allOf": [schema], "components": self.strict });
        let validator = jsonschema::validator_for(&schema).unwrap();
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
    }

    fn assert_valid(&self, schema: &Value, value: &Value) {
        let errors = self.errors(schema, value);
        assert!(errors.is_empty(), "{errors:?} in {value}");
    }

    /// Asks, and holds the request's body and the answer against what is said of an operation.
    async fn ask(&self, method: &str, path: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let operation = &self.document["paths"][path][method.to_lowercase()];
        assert!(operation.is_object(), "{method} {path}");
        let answer = request(self.node.http_address(), method, target, headers, body).await;
        let described = &operation["requestBody"]["content"]["application/json"]["schema"];
        if !body.is_empty() && described.is_object() && answer.status < 400 {
            self.assert_valid(described, &serde_json::from_str(body).unwrap());
        }
        let responses = &operation["responses"];
        let response = responses.get(answer.status.to_string()).unwrap_or(&responses["default"]);
        let response = self.resolve(response);
        assert!(response.is_object(), "{method} {target} answers {}", answer.status);
        let head = answer.head.to_lowercase();
        let kind = head.lines().find_map(|line| line.strip_prefix("content-type: "));
        let kind = kind.map(|kind| kind.split(';').next().unwrap());
        let schema = match kind {
            None => {
                assert!(response.get("content").is_none() && answer.body.is_empty(), "{method} {target}");
                return answer;
            }
            Some(kind) => &response["content"][kind]["schema"],
        };
        assert!(schema.is_object(), "{method} {target} answers {} with {kind:?}", answer.status);
        match kind {
            Some("application/x-ndjson") => {
                answer.body.lines().for_each(|line| self.assert_valid(schema, &serde_json::from_str(line).unwrap()));
            }
            Some(kind) if kind.ends_with("json") => self.assert_valid(schema, &answer.json()),
            _ => {}
        }
        answer
    }
}

/// Lets no object of a schema have a property that is not named.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.get("type") == Some(&json!("object")) && fields.contains_key("properties") {
                fields.insert("additionalProperties".into(), false.into());
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// A path of the document with names in the place of its parameters.
fn filled(path: &str) -> String {
    path.replace("{channel}", "orders").replace(['{', '}'], "")
}

fn names<'a>(values: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    values.into_iter().map(str::to_owned).collect()
}

/// What a refusal of an unknown field says that it expected.
fn expected(answer: &Answer) -> BTreeSet<String> {
    assert_eq!(answer.code(), (400, "INVALID_ARGUMENT".into()));
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    let (_, expected) = detail.split_once("expected").unwrap_or_else(|| panic!("{detail}"));
    names(expected.split('`').skip(1).step_by(2))
}

#[tokio::test]
async fn the_document_names_the_methods_of_every_path_and_no_others() {
    let described = Described::start().await;
    for (path, methods) in described.document["paths"].as_object().unwrap() {
        let answer = request(described.node.http_address(), "PURGE", &filled(path), &[], "").await;
        assert_eq!(answer.code(), (405, "METHOD_NOT_ALLOWED".into()), "{path}");
        let head = answer.head.to_lowercase();
        let allowed = head.lines().find_map(|line| line.strip_prefix("allow: ")).unwrap();
        let allowed = names(allowed.split(',').filter(|method| *method != "head"));
        assert_eq!(names(methods.as_object().unwrap().keys().map(String::as_str)), allowed, "{path}");
    }
    let mut seen = BTreeSet::new();
    for (path, method, operation) in described.operations() {
        assert!(seen.insert(operation["operationId"].as_str().unwrap()), "{operation}");
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let parameters = parameters.map(|parameter| described.resolve(parameter));
        let named = parameters.filter(|parameter| parameter["in"] == "path");
        let in_path = path.split(['{', '}']).skip(1).step_by(2);
        assert_eq!(names(named.map(|one| one["name"].as_str().unwrap())), names(in_path), "{method} {path}");
    }
    described.node.stop().await;
}

/// The fields of a body, of whichever of its forms.
fn fields(schema: &Value) -> BTreeSet<String> {
    let forms = schema["oneOf"].as_array().into_iter().flatten().chain([schema]);
    let fields = forms.filter_map(|form| form["properties"].as_object()).flat_map(serde_json::Map::keys);
    names(fields.map(String::as_str))
}

#[tokio::test]
async fn the_document_names_every_parameter_and_every_field_of_a_body() {
    let described = Described::start().await;
    let address = described.node.http_address();
    let mut bodies = 0;
    for (path, method, operation) in described.operations() {
        let target = filled(path);
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let parameters = parameters.map(|parameter| described.resolve(parameter));
        let query = parameters.filter(|parameter| parameter["in"] == "query");
        let query = names(query.map(|parameter| parameter["name"].as_str().unwrap()));
        if !query.is_empty() {
            let answer = request(address, &method, &format!("{target}?unheard_of=1"), &[], "").await;
            assert_eq!(expected(&answer), query, "{method} {path}");
        }
        let body = fields(described.resolve(&operation["requestBody"]["content"]["application/json"]["schema"]));
        if body.is_empty() {
            continue;
        }
        bodies += 1;
        let mut taken = expected(&request(address, &method, &target, &[], r#"{"unheard_of":1}"#).await);
        if operation["operationId"] == "updateConsumer" {
            // It only knows them to say that they cannot change.
            assert!(["name", "start"].iter().all(|field| taken.remove(*field)));
        }
        assert_eq!(taken, body, "{method} {path}");
    }
    assert_eq!(bodies, 19);
    described.node.stop().await;
}

#[tokio::test]
async fn channels_and_their_messages_are_answered_as_described() {
    let described = Described::start().await;
    let (channel, messages) = ("/v1/channels/{channel}", "/v1/channels/{channel}/messages");
    let ask = async |method: &str, path: &str, target: &str, body: &str| {
        described.ask(method, path, target, &[], body).await.status
    };
    assert_eq!(ask("PUT", channel, "/v1/channels/bad", "").await, 200);
    let full = json!({
        "durability": "durable", "schema": {"type": "object", "required": ["id"]}, "dedup_window_ms": 60_000,
        "compatibility": "full", "retention": {"max_messages": 100, "max_bytes": 1 << 20, "max_age_ms": 60_000},
        "quarantine": "bad", "quota": {"messages_per_second": 1000, "bytes_per_second": 1 << 20},
        "comparison": "canonical-json",
    });
    assert_eq!(ask("PUT", channel, "/v1/channels/full", &full.to_string()).await, 200);
    assert_eq!(ask("GET", channel, "/v1/channels/full", "").await, 200);
    assert_eq!(ask("GET", "/v1/channels", "/v1/channels", "").await, 200);

    let target = "/v1/channels/full/messages";
    let headers = [("Idempotency-Key", "k"), ("Liminal-Header-Colour", "red"), ("Liminal-Ttl", "1h")];
    assert_eq!(described.ask("POST", messages, target, &headers, r#"{"id":1}"#).await.status, 200);
    assert_eq!(described.ask("POST", messages, target, &[("Liminal-Delay", "1h")], r#"{"id":2}"#).await.status, 200);
    let delayed = "/v1/channels/{channel}/delayed";
    let page = described.ask("GET", delayed, "/v1/channels/full/delayed?limit=5", &[], "").await.json();
    assert_eq!((&page["messages"][0]["payload"], &page["messages"][0]["id"]), (&json!({"id": 2}), &json!(1)));
    let withdraw = "/v1/channels/{channel}/delayed/{id}";
    for withdrawn in [true, false] {
        let answer = described.ask("DELETE", withdraw, "/v1/channels/full/delayed/1", &[], "").await.json();
        assert_eq!(answer["withdrawn"], withdrawn);
    }
    assert_eq!(ask("DELETE", withdraw, "/v1/channels/full/delayed/first", "").await, 400);
    let lines = [("Content-Type", "application/x-ndjson")];
    let answer = described.ask("POST", messages, target, &lines, "{\"id\":3}\n{}\n").await;
    assert_eq!((answer.status, answer.body.lines().count()), (200, 2));
    assert_eq!(described.ask("POST", messages, target, &[], "{}").await.code().1, "SCHEMA_VIOLATION");
    let bytes = [("Liminal-Header-A", "1"), ("Liminal-Header-A", "2")];
    assert_eq!(described.ask("POST", messages, "/v1/channels/orders/messages", &bytes, "no JSON").await.status, 200);
    for target in ["/v1/channels/full/messages?limit=5", "/v1/channels/orders/messages?consistency=local"] {
        let page = described.ask("GET", messages, target, &[], "").await.json();
        assert!(!page["messages"].as_array().unwrap().is_empty());
    }
    let transaction = r#"{"messages":[{"channel":"full","payload":{"id":4},"key":"t"},
        {"channel":"orders","payload_base64":"/wA=","key":"t","headers":{"a":["1","2"]},"ttl_ms":1000}]}"#;
    assert_eq!(ask("POST", "/v1/transactions", "/v1/transactions", transaction).await, 200);
    let request =
        described.ask("POST", "/v1/channels/{channel}/request", "/v1/channels/orders/request", &[], "1").await;
    assert_eq!(request.code().1, "NO_RESPONDERS");
    let reply = described.ask("POST", "/v1/replies/{inbox}", "/v1/replies/nobody", &[], "1").await;
    assert!(reply.status >= 400);

    let validate = "/v1/channels/{channel}/schema/validate";
    let other = r#"{"type":"object","required":["id"],"properties":{"id":{"maximum":2}}}"#;
    let history = described.ask("POST", validate, "/v1/channels/full/schema/validate", &[], other).await.json();
    assert!(!history["samples"].as_array().unwrap().is_empty());
    let update = format!(r#"{{"schema":{other}}}"#);
    let tried = described.ask("PATCH", channel, "/v1/channels/full?dry_run=true", &[], &update).await.json();
    assert_eq!(tried["compatible"], false);
    let refused = described.ask("PATCH", channel, "/v1/channels/full", &[], &update).await;
    assert_eq!(refused.code().1, "SCHEMA_INCOMPATIBLE");
    assert_eq!(ask("PATCH", channel, "/v1/channels/full", r#"{"schema":null,"quarantine":null}"#).await, 200);
    let schemas = "/v1/channels/{channel}/schemas";
    let kept = described.ask("GET", schemas, "/v1/channels/full/schemas", &[], "").await.json();
    assert_eq!((&kept["schemas"][0]["version"], kept["schemas"].as_array().unwrap().len()), (&json!(1), 1));
    let trim = "/v1/channels/{channel}/trim";
    for body in [r#"{"to":1}"#, r#"{"keep":1}"#, r#"{"older_than":"1h"}"#] {
        assert_eq!(ask("POST", trim, "/v1/channels/full/trim", body).await, 200, "{body}");
    }
    assert_eq!(described.ask("GET", messages, "/v1/channels/full/messages?from=0", &[], "").await.status, 410);
    assert_eq!(ask("DELETE", channel, "/v1/channels/full", "").await, 204);
    assert_eq!(described.ask("GET", channel, "/v1/channels/full", &[], "").await.code().1, "CHANNEL_NOT_FOUND");
    assert_eq!(ask("GET", "/v1/ws", "/v1/ws", "").await, 400, "no WebSocket");
    described.node.stop().await;
}

#[tokio::test]
async fn rules_consumers_and_claims_are_answered_as_described() {
    let described = Described::start().await;
    let ask =
        async |method: &str, path: &str, target: &str, body: &str| described.ask(method, path, target, &[], body).await;
    ask("PUT", "/v1/channels/{channel}", "/v1/channels/copies", "").await;
    let (rule, target) = ("/v1/rules/{source}/{target}", "/v1/rules/orders/copies");
    assert_eq!(ask("PUT", rule, target, r#"{"predicate":"id > 1"}"#).await.status, 200);
    assert_eq!(ask("PUT", rule, "/v1/rules/copies/orders", "").await.code().1, "RULE_REFUSED");
    assert_eq!(ask("GET", "/v1/rules", "/v1/rules", "").await.json()["rules"].as_array().unwrap().len(), 1);
    assert_eq!(ask("DELETE", rule, target, "").await.status, 204);
    assert_eq!(ask("DELETE", rule, target, "").await.code().1, "RULE_NOT_FOUND");

    let (consumers, orders) = ("/v1/channels/{channel}/consumers", "/v1/channels/orders/consumers");
    let (consumer, billing) = ("/v1/channels/{channel}/consumers/{consumer}", "/v1/channels/orders/consumers/billing");
    let of = |what: &str| (format!("{consumer}/{what}"), format!("{billing}/{what}"));
    let create = json!({
        "name": "billing", "start": "earliest", "ack_timeout_ms": 60_000, "max_attempts": 3, "dead_letter": "copies",
        "max_in_flight": 10, "order": "key", "order_header": "user", "filter": "id > 0",
    });
    assert_eq!(ask("POST", consumers, orders, &create.to_string()).await.status, 200);
    assert_eq!(ask("POST", consumers, orders, r#"{"name":"billing"}"#).await.code().1, "CONSUMER_EXISTS");
    assert_eq!(ask("GET", consumers, orders, "").await.status, 200);
    assert_eq!(ask("PATCH", consumer, billing, r#"{"max_attempts":4,"filter":""}"#).await.status, 200);
    assert_eq!(ask("GET", consumer, billing, "").await.status, 200);
    for payload in ["1", "2", "no JSON"] {
        ask("POST", "/v1/channels/{channel}/messages", "/v1/channels/orders/messages", payload).await;
    }
    let (path, target) = of("pull");
    let pulled = ask("POST", &path, &format!("{target}?max=3&wait=5s"), "").await.json();
    let tokens: Vec<_> = pulled["messages"].as_array().unwrap().iter().map(|one| one["token"].clone()).collect();
    assert_eq!(tokens.len(), 3);
    let (path, target) = of("members");
    let members = ask("GET", &path, &target, "").await.json();
    assert_eq!((&members["members"][0]["member"], &members["members"][0]["held"]), (&Value::Null, &json!(3)));
    let (path, target) = of("settle");
    let settle = json!({
        "ack": [tokens[0]], "nack": [tokens[1], {"token": tokens[2], "delay_ms": 60_000, "reason": "busy"}],
    });
    assert_eq!(ask("POST", &path, &target, &settle.to_string()).await.json()["settled"], 3);
    let late = ask("POST", &path, &target, &json!({"extend": [tokens[2]]}).to_string()).await.json();
    assert_eq!(late["stale"].as_array().unwrap().len(), 1, "{late}");
    let mut letter = vec![("Liminal-Header-liminal-dead-letter-channel", "orders")];
    letter.push(("Liminal-Header-liminal-dead-letter-consumer", "billing"));
    let written =
        described.ask("POST", "/v1/channels/{channel}/messages", "/v1/channels/copies/messages", &letter, "1");
    assert_eq!(written.await.status, 200);
    let (path, target) = of("dead-letters");
    let query = "filter=$payload%20%3E%200&from_seq=0&limit=5&dead_letter=copies";
    let listed = ask("GET", &path, &format!("{target}?{query}"), "").await.json();
    assert_eq!(listed["letters"].as_array().unwrap().len(), 1, "{listed}");
    let (path, target) = of("redrive");
    let redrive = json!({
        "to": "orders", "dead_letter": "copies", "filter": "$payload > 0", "from_seq": 0, "limit": 5, "dry_run": true,
    });
    assert_eq!(ask("POST", &path, &target, &redrive.to_string()).await.json()["moved"], 1);
    assert_eq!(ask("POST", &path, &target, "").await.json()["moved"], 1);
    let (path, target) = of("reset");
    assert_eq!(ask("POST", &path, &target, r#"{"start":"latest"}"#).await.status, 200);
    assert_eq!(ask("DELETE", consumer, billing, "").await.status, 204);
    assert_eq!(ask("GET", consumer, billing, "").await.code().1, "CONSUMER_NOT_FOUND");

    let (namespace, jobs) = ("/v1/claims/{namespace}", "/v1/claims/jobs");
    assert_eq!(ask("PUT", namespace, jobs, r#"{"window_ms":60000}"#).await.status, 200);
    assert_eq!(ask("GET", namespace, jobs, "").await.status, 200);
    assert_eq!(ask("GET", "/v1/claims", "/v1/claims", "").await.status, 200);
    let claim = "/v1/claims/{namespace}/{key}";
    let on = |what: &str| (format!("{claim}/{what}"), format!("{jobs}/k/{what}"));
    let take = async |owner: &str| {
        ask("POST", claim, "/v1/claims/jobs/k", &json!({"lease_ms": 60_000, "owner": owner}).to_string()).await
    };
    let show = async || ask("GET", claim, "/v1/claims/jobs/k", "").await.json()["state"].clone();
    assert_eq!(show().await, "free");
    assert_eq!(take("a").await.json()["token"], 1);
    assert_eq!((take("b").await.code().1.as_str(), show().await), ("CLAIM_IN_FLIGHT", json!("in_flight")));
    let (path, target) = on("renew");
    assert_eq!(ask("POST", &path, &target, r#"{"token":1,"lease_ms":60000}"#).await.status, 200);
    let (path, target) = on("release");
    assert_eq!(ask("POST", &path, &target, r#"{"token":1}"#).await.status, 200);
    assert_eq!(take("b").await.status, 201);
    let (path, target) = on("complete");
    assert_eq!(ask("POST", &path, &target, r#"{"token":1}"#).await.code().1, "CLAIM_STALE");
    assert_eq!(ask("POST", &path, &target, r#"{"token":2,"receipt":[7]}"#).await.status, 200);
    assert_eq!((take("a").await.status, show().await), (200, json!("completed")));
    assert_eq!(ask("DELETE", namespace, jobs, "").await.status, 204);
    assert_eq!(ask("GET", namespace, jobs, "").await.code().1, "NAMESPACE_NOT_FOUND");
    described.node.stop().await;
}

#[tokio::test]
async fn tokens_and_roles_are_answered_as_described() {
    let described = Described::start().await;
    let ask =
        async |method: &str, path: &str, target: &str, body: &str| described.ask(method, path, target, &[], body).await;
    let (role, ops) = ("/v1/roles/{role}", "/v1/roles/ops");
    let grants = json!({"description": "d", "grants": [{"scope": "channel:orders.*", "actions": ["publish", "read"]}]});
    assert_eq!(ask("PUT", role, ops, &grants.to_string()).await.status, 200);
    assert_eq!(ask("PUT", role, ops, r#"{"grants":[]}"#).await.code().1, "ROLE_EXISTS");
    assert_eq!(ask("PATCH", role, ops, r#"{"grants":[{"scope":"cluster","actions":["read"]}]}"#).await.status, 200);
    assert_eq!(ask("GET", role, ops, "").await.json()["grants"][0]["scope"], "cluster");
    assert_eq!(ask("GET", "/v1/roles", "/v1/roles", "").await.json()["roles"].as_array().unwrap().len(), 2);

    let create = r#"{"description":"ci","roles":["ops"],"lifetime":"90d"}"#;
    let made = ask("POST", "/v1/tokens", "/v1/tokens", create).await;
    assert_eq!(made.status, 201);
    let made = made.json();
    let (token, target) = ("/v1/tokens/{id}", format!("/v1/tokens/{}", made["id"].as_str().unwrap()));
    let shown = ask("GET", token, &target, "").await.json();
    assert_eq!((&shown["expires"], shown.get("token")), (&made["expires"], None), "the text is told once");
    let rotated = ask("POST", "/v1/tokens/{id}/rotate", &format!("{target}/rotate"), "").await.json();
    assert_ne!(rotated["token"], made["token"]);
    assert_eq!(ask("GET", "/v1/tokens", "/v1/tokens?limit=1", "").await.json()["tokens"].as_array().unwrap().len(), 1);
    assert_eq!(ask("DELETE", role, ops, "").await.code(), (409, "ROLE_IN_USE".into()));
    assert_eq!(ask("DELETE", token, &target, "").await.status, 204);
    assert_eq!(ask("DELETE", token, &target, "").await.code(), (404, "TOKEN_NOT_FOUND".into()));
    assert_eq!(ask("DELETE", role, ops, "").await.status, 204);
    assert_eq!(ask("GET", role, ops, "").await.code(), (404, "ROLE_NOT_FOUND".into()));
    let asked = ask("GET", "/v1/can-i", "/v1/can-i?action=read&scope=cluster", "").await.json();
    assert_eq!(asked["allowed"], false, "nobody is known, whatever the mode: {asked}");
    described.node.stop().await;
}

#[tokio::test]
async fn an_answer_with_a_field_too_many_or_too_few_would_be_found() {
    let described = Described::start().await;
    let channel = json!({"$ref": "#/components/schemas/Channel"});
    let shown = described.ask("GET", "/v1/channels/{channel}", "/v1/channels/orders", &[], "").await.json();
    assert!(described.errors(&channel, &shown).is_empty());
    for (field, value) in [("bytes", None), ("bytes", Some(json!("1"))), ("colour", Some(json!("red")))] {
        let mut wrong = shown.clone();
        match value {
            None => drop(wrong.as_object_mut().unwrap().remove(field)),
            Some(value) => wrong[field] = value,
        }
        assert!(!described.errors(&channel, &wrong).is_empty(), "{wrong}");
    }
    described.node.stop().await;
}

#[tokio::test]
async fn what_watches_a_node_is_answered_as_described() {
    let described = Described::start().await;
    let node = ["/", "/health", "/ready", "/metrics", "/v1/openapi.json", "/v1/node", "/v1/history"];
    let cluster = ["/v1/cluster", "/v1/cluster/events", "/v1/consumers"];
    for path in node.into_iter().chain(cluster) {
        assert_eq!(described.ask("GET", path, path, &[], "").await.status, 200, "{path}");
    }
    for (file, status) in [("main.js", 200), ("console.css", 200), ("icon.svg", 200), ("x", 404)] {
        let target = format!("/console/{file}");
        assert_eq!(described.ask("GET", "/console/{asset}", &target, &[], "").await.status, status, "{file}");
    }
    described.node.stop().await;
}

#[tokio::test]
async fn changes_of_the_cluster_are_answered_as_described() {
    let described = Described::start().await;
    let node = "/v1/cluster/nodes/{node}";
    for (method, step) in [("POST", "/lead"), ("POST", "/promote"), ("DELETE", "")] {
        let (path, target) = (format!("{node}{step}"), format!("/v1/cluster/nodes/n9{step}"));
        assert_eq!(described.ask(method, &path, &target, &[], "").await.code().1, "CHANGE_REFUSED", "{method} {path}");
    }
    described.node.stop().await;
}

#[tokio::test]
async fn live_figures_are_answered_as_described() {
    let described = Described::start().await;
    let mut stream = open(described.node.http_address(), "GET", "/v1/live", &[], b"").await;
    let said = until(&mut stream, "\n\n").await;
    let data = said.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let overview: Value = serde_json::from_str(data).unwrap();
    described.assert_valid(&json!({"$ref": "#/components/schemas/Overview"}), &overview);
    assert_eq!((&overview["leader"], &overview["nodes"][0]["health"]), (&json!("n1"), &json!("ok")));
    let figures = &overview["figures"];
    assert_eq!((&figures["channels"], &figures["consumers"], &figures["stored"]), (&json!(1), &json!(0), &json!(0)));
    drop(stream);
    described.node.stop().await;
}

#[tokio::test]
async fn the_codes_of_the_document_are_those_of_the_catalogue_for_people() {
    let described = Described::start().await;
    let rows = include_str!("../../docs/ERRORS.md").lines().filter_map(|line| line.strip_prefix("| `"));
    let over_http = rows.filter(|row| row.split(" | ").nth(2) != Some("-"));
    let codes = names(over_http.filter_map(|row| row.split('`').next()));
    let document = &described.document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"];
    assert_eq!(names(document.as_array().unwrap().iter().map(|code| code.as_str().unwrap())), codes);
    described.node.stop().await;
}
