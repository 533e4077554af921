//! What keeps foreign web pages out.
//!
//! Any page that somebody opens can send requests to `localhost`, and to whatever else that browser reaches; it can even
//! have its own name resolve to such an address. Browsers say on whose behalf they ask (`Origin`, `Sec-Fetch-Site`), so
//! their requests are taken from pages that this node served itself, under an address or name that is its own, and from
//! origins that the configuration names (CORS, as the Fetch standard says it). A page under a foreign name that leads here
//! may read without any of these headers, so what calls itself a browser is looked at as well. Other programs are not.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use liminal_wire::Code;

use super::problem::Problem;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
/// How all browsers begin to say what they are.
const BROWSER: &[u8] = b"Mozilla/";
/// How long a browser may remember what it may send, seconds.
const REMEMBERED: HeaderValue = HeaderValue::from_static("600");
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
/// What a page may read of an answer beyond what it may always read.
const EXPOSED: HeaderValue = HeaderValue::from_static("Retry-After, Content-Location, Link");

/// Which pages may ask.
#[derive(Clone, Debug)]
pub struct Browsers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// As browsers write them: scheme, name and, where it is not the usual one, port.
    origins: BTreeSet<String>,
    /// Names of this node.
    hosts: BTreeSet<String>,
}

impl Browsers {
    /// `origins` may ask from elsewhere; `addresses` are `host:port`s by which this node is known.
    pub fn new<'a>(origins: &[String], addresses: impl IntoIterator<Item = &'a str>) -> Self {
        let origins: BTreeSet<String> =
            origins.iter().map(|origin| origin.trim_end_matches('/').to_ascii_lowercase()).collect();
        let own = |address: &str| host(address).to_ascii_lowercase();
        let named = origins.iter().filter_map(|origin| origin.split_once("://")).map(|(_, authority)| own(authority));
        let hosts = addresses.into_iter().map(own).chain(named).collect();
        Self { shared: Arc::new(Shared { origins, hosts }) }
    }

    /// Whether a request is on behalf of a page that may make it; gives that page's origin where it is another one.
    fn admit(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, Problem> {
        let origin = headers.get(header::ORIGIN);
        let agent = headers.get(header::USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
        if origin.is_none() && !headers.contains_key(FETCH_SITE) && !agent.starts_with(BROWSER) {
            return Ok(None);
        }
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        let asked = headers.get(header::HOST).map(text).unwrap_or_default();
        if !self.is_own(host(&asked)) {
            let detail = format!(
                "`{asked}` is no name of this node: a web page may have another name lead here. If it is yours, add its \
                 origin to `allowed_origins`"
            );
            return Err(Problem::new(&Code::HostNotAllowed, detail));
        }
        let Some(origin) = origin else {
            // Such as a picture in a foreign page. Who follows a link wants to see what is there.
            let sent = |name: HeaderName| headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
            let foreign = matches!(sent(FETCH_SITE), b"cross-site" | b"same-site") && sent(FETCH_MODE) != b"navigate";
            let refused = "a web page of another origin may not use this node; `allowed_origins` names those that may";
            return match foreign {
                true => Err(Problem::new(&Code::OriginNotAllowed, refused.to_owned())),
                false => Ok(None),
            };
        };
        let said = text(origin);
        if said.split_once("://").is_some_and(|(_, authority)| authority == asked) {
            return Ok(None);
        }
        if self.shared.origins.contains(&said) {
            return Ok(Some(origin.clone()));
        }
        let detail = format!("web pages of `{said}` may not use this node; `allowed_origins` names those that may");
        Err(Problem::new(&Code::OriginNotAllowed, detail))
    }

    fn is_own(&self, host: &str) -> bool {
        host == "localhost"
            || host.ends_with(".localhost")
            || host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
            || self.shared.hosts.contains(host)
    }
}

/// The name or address of a `host:port`, of which the port may be missing.
fn host(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        // Not within an IPv6 address.
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !port.is_empty() => host,
        _ => authority,
    }
}

/// Stands before all routes.
pub(super) async fn guard(State(browsers): State<Browsers>, request: Request, next: Next) -> Response {
    let origin = match browsers.admit(request.headers()) {
        Ok(origin) => origin,
        Err(problem) => return problem.into_response(),
    };
    let Some(origin) = origin else { return next.run(request).await };
    let asks_first =
        request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if asks_first {
        let wanted = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        let mut response = StatusCode::NO_CONTENT.into_response();
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, REMEMBERED);
        headers.extend(wanted.map(|wanted| (header::ACCESS_CONTROL_ALLOW_HEADERS, wanted)));
        response
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(headers: &[(&'static str, &str)]) -> Result<Option<String>, &'static str> {
        let browsers = Browsers::new(&["https://Console.example.com/".to_owned()], ["broker-1:7201", "[::1]:7201"]);
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
        let admitted = browsers.admit(&headers.collect());
        admitted
            .map(|origin| origin.map(|origin| origin.to_str().unwrap().to_owned()))
            .map_err(|problem| problem.code().as_str())
    }

    #[test]
    fn programs_that_are_no_browsers_are_not_looked_at() {
        assert_eq!(said(&[("host", "whatever.example.com")]), Ok(None));
        assert_eq!(said(&[]), Ok(None));
    }

    #[test]
    fn pages_that_this_node_served_under_a_name_of_its_own_may_ask() {
        for own in ["127.0.0.1:7201", "[::1]:7201", "localhost:7201", "broker-1:7201", "BROKER-1", "n1.localhost"] {
            assert_eq!(said(&[("host", own), ("origin", &format!("http://{own}"))]), Ok(None), "{own}");
            assert_eq!(said(&[("host", own), ("sec-fetch-site", "none")]), Ok(None), "{own}");
        }
    }

    #[test]
    fn a_foreign_page_may_not_ask_and_one_that_is_named_may() {
        let from = |origin: &str| said(&[("host", "127.0.0.1:7201"), ("origin", origin)]);
        for foreign in ["http://example.com", "null", "http://127.0.0.1:9999", "https://console.example.com.evil.com"] {
            assert_eq!(from(foreign), Err("ORIGIN_NOT_ALLOWED"), "{foreign}");
        }
        assert_eq!(from("https://console.example.com"), Ok(Some("https://console.example.com".into())));
        let fetched = |site: &str, mode: &str| {
            said(&[("host", "127.0.0.1:7201"), ("sec-fetch-site", site), ("sec-fetch-mode", mode)])
        };
        assert_eq!(fetched("cross-site", "no-cors"), Err("ORIGIN_NOT_ALLOWED"));
        assert_eq!(fetched("cross-site", "navigate"), Ok(None));
        assert_eq!(fetched("same-origin", "cors"), Ok(None));
    }

    #[test]
    fn a_foreign_name_that_leads_here_does_not_make_its_page_ours() {
        let rebound = [("host", "evil.example.com:7201"), ("origin", "http://evil.example.com:7201")];
        assert_eq!(said(&rebound), Err("HOST_NOT_ALLOWED"));
        assert_eq!(
            said(&[("host", "evil.example.com:7201"), ("sec-fetch-site", "same-origin")]),
            Err("HOST_NOT_ALLOWED")
        );
    }
}
