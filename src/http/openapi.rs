//! What this face takes and answers, as a machine reads it: an OpenAPI 3.1 document, which the tests hold to the truth.

use std::sync::LazyLock;

use axum::{
    http::header,
    response::{IntoResponse as _, Response},
};
use liminal_wire::Code;

/// Written by hand, but for the version and the codes of errors.
const DOCUMENT: &str = include_str!("openapi.json");

static SERVED: LazyLock<String> = LazyLock::new(|| {
    let over_http = Code::ALL.iter().filter(|code| code.meaning().http.is_some());
    let codes: Vec<String> = over_http.map(|code| format!("\"{code}\"")).collect();
    let versioned = DOCUMENT.replacen("{version}", env!("CARGO_PKG_VERSION"), 1);
    versioned.replacen("\"{codes}\"", &format!("[{}]", codes.join(", ")), 1)
});

pub(super) async fn show() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], SERVED.as_str()).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::{
        super::{MONITORING, OPERATING, ROUTES, TRANSACTIONS},
        SERVED,
    };

    #[test]
    fn every_path_is_described_and_there_are_no_others() {
        let document: Value = serde_json::from_str(&SERVED).unwrap();
        let described: BTreeSet<&str> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        let of_broker = ROUTES.iter().chain(TRANSACTIONS).map(|(path, _)| *path);
        let of_node = MONITORING.iter().map(|(path, _)| *path).chain(OPERATING.iter().map(|(path, _)| *path));
        let routed = of_broker.chain(of_node);
        assert_eq!(described, routed.collect());
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    }
}
