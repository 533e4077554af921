//! The web console: pages, scripts and styles that are part of the binary, so that any node serves them without a network
//! behind it. They hold nothing secret and are open to everybody; all that they show and do are calls of this API, made with
//! the token of whoever looks.
//!
//! Browsers are told to run only what came from here, as a file (Content-Security-Policy): a payload that looks like a script
//! stays text, even if a page should once put it in the wrong place.

use std::{collections::BTreeMap, sync::LazyLock};

use axum::{
    extract::Path,
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use liminal_wire::Code;

use super::problem::Problem;

/// No source but this node, and nothing within the page itself.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// A browser asks each time, and mostly hears that nothing has changed: the files are those of the node's version.
const CACHING: &str = "no-cache";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

const PAGE: &str = "index.html";

macro_rules! assets {
    ($($name:literal $kind:ident)+) => {
        /// Names, types and contents.
        const ASSETS: &[(&str, &str, &str)] = &[$(($name, $kind, include_str!(concat!("assets/", $name)))),+];
    };
}

assets! {
    "index.html" HTML
    "console.css" CSS
    "icon.svg" SVG
    "api.js" SCRIPT
    "channel.js" SCRIPT
    "channels.js" SCRIPT
    "chart.js" SCRIPT
    "claims.js" SCRIPT
    "cluster.js" SCRIPT
    "consumers.js" SCRIPT
    "diff.js" SCRIPT
    "dom.js" SCRIPT
    "example.js" SCRIPT
    "feed.js" SCRIPT
    "format.js" SCRIPT
    "lanes.js" SCRIPT
    "main.js" SCRIPT
    "messages.js" SCRIPT
    "overview.js" SCRIPT
    "pointer.js" SCRIPT
    "publish.js" SCRIPT
    "repeat.js" SCRIPT
    "schemas.js" SCRIPT
    "security.js" SCRIPT
    "settings.js" SCRIPT
    "waiting.js" SCRIPT
}

struct Asset {
    kind: &'static str,
    text: &'static str,
    /// Of its content.
    tag: String,
}

static SERVED: LazyLock<BTreeMap<&'static str, Asset>> = LazyLock::new(|| {
    let tag = |text: &str| format!("\"{}\"", &blake3::hash(text.as_bytes()).to_hex()[..32]);
    ASSETS.iter().map(|(name, kind, text)| (*name, Asset { kind, text, tag: tag(text) })).collect()
});

pub(super) async fn page(headers: HeaderMap) -> Result<Response, Problem> {
    serve(PAGE, &headers)
}

pub(super) async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    // The page is at `/`: what it loads is named relative to that.
    if name == PAGE {
        return Err(unknown(&name));
    }
    serve(&name, &headers)
}

fn unknown(name: &str) -> Problem {
    Problem::new(&Code::NoSuchPath, format!("the console has no file `{name}`"))
}

fn serve(name: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let Asset { kind, text, tag } = SERVED.get(name).ok_or_else(|| unknown(name))?;
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = known.flat_map(|value| value.split(',')).any(|one| {
        let one = one.trim();
        one == "*" || one.trim_start_matches("W/") == tag
    });
    let about = [
        (header::ETAG, tag.as_str()),
        (header::CACHE_CONTROL, CACHING),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    Ok(match is_known {
        true => (StatusCode::NOT_MODIFIED, about).into_response(),
        false => (about, [(header::CONTENT_TYPE, *kind)], *text).into_response(),
    })
}
