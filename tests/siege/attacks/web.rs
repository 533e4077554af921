//! What a browser sends for any page that its user looks at.

use super::Target;
use crate::raw::{code, http, http_as};

const MESSAGES: &str = "/v1/channels/orders/messages";
const PAGE: &str = "Origin: https://elsewhere.example\r\nSec-Fetch-Site: cross-site\r\nContent-Type: text/plain\r\n";

pub async fn publish(target: Target) -> String {
    let answer = http(target.http(), "POST", MESSAGES, PAGE, b"{}").await;
    assert_eq!(answer.0, 403, "{}", answer.1);
    code(&answer)
}

pub async fn socket(target: Target) -> String {
    let upgrade = format!(
        "{PAGE}Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    );
    let answer = http(target.http(), "GET", "/v1/ws", &upgrade, b"").await;
    assert_eq!(answer.0, 403, "{}", answer.1);
    code(&answer)
}

/// A name that the page's owner has had resolved to the node's address.
pub async fn rebinding(target: Target) -> String {
    let (_, port) = target.http().rsplit_once(':').unwrap();
    let host = format!("evil.example:{port}");
    let page = format!("Origin: http://{host}\r\nSec-Fetch-Site: same-origin\r\nContent-Type: text/plain\r\n");
    let answer = http_as(target.http(), &host, "POST", MESSAGES, &page, b"{}").await;
    assert_eq!(answer.0, 421, "{}", answer.1);
    code(&answer)
}
