//! What every answer tells browsers, whoever wrote it: a browser must not guess what an answer is, show it inside the page
//! of somebody else, tell others where its user came from, or keep answers of the API on disk.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// Set unless a page says something of its own.
const USUAL: [(HeaderName, HeaderValue); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
];
/// Where the API is. What it answers depends on who asks.
const API: &str = "/v1/";

/// Adds the headers to an answer to a request for `path`.
pub(super) fn harden(path: &str, headers: &mut HeaderMap) {
    for (name, value) in USUAL {
        headers.entry(name).or_insert(value);
    }
    if path.starts_with(API) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hardened(path: &str, own: &[(HeaderName, &'static str)]) -> Vec<String> {
        let mut headers: HeaderMap =
            own.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        harden(path, &mut headers);
        let mut lines: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    #[test]
    fn no_answer_is_guessed_at_framed_or_told_of_to_others() {
        let policy = "content-security-policy: default-src 'none'; frame-ancestors 'none'";
        let all = [policy, "referrer-policy: no-referrer", "x-content-type-options: nosniff"];
        assert_eq!(hardened("/health", &[]), all);
        assert_eq!(hardened("/v1/channels", &[])[1..], all);
    }

    #[test]
    fn answers_of_the_api_are_not_kept_whatever_a_handler_says() {
        for own in [&[][..], &[(header::CACHE_CONTROL, "no-cache")]] {
            assert_eq!(hardened("/v1/channels", own)[0], "cache-control: no-store");
        }
        assert!(!hardened("/metrics", &[]).iter().any(|line| line.starts_with("cache-control")));
    }

    #[test]
    fn a_page_may_have_a_policy_of_its_own() {
        let own = [(header::CONTENT_SECURITY_POLICY, "default-src 'self'")];
        assert_eq!(hardened("/", &own)[0], "content-security-policy: default-src 'self'");
    }
}
