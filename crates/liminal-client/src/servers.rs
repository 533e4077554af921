//! How servers are given: `host:port`, with or without a scheme, which says whether they are spoken to over TLS.

use liminal_wire::{Code, address};
use tonic::transport::Uri;

use super::error::ClientError;

/// `host:port` of each server, and whether they are spoken to over TLS: as their schemes say, or as is preferred where none
/// has one.
pub(crate) fn authorities(servers: &[String], prefers_tls: bool) -> Result<(Vec<String>, bool), ClientError> {
    let (mut authorities, mut encrypted) = (Vec::new(), None);
    for server in servers {
        let (scheme, authority) = authority(server)?;
        let over_tls = scheme.unwrap_or(prefers_tls);
        if encrypted.replace(over_tls).is_some_and(|others| others != over_tls) {
            return Err(ClientError::new(
                Code::InvalidArgument,
                format!("some servers are given as https:// and some are not, such as `{server}`"),
            )
            .with_help("all nodes of a cluster speak TLS to clients, or none"));
        }
        authorities.push(authority);
    }
    Ok((authorities, encrypted.unwrap_or(false)))
}

/// `host:port` of a server, given with or without `http://` or `https://`, and whether it was the latter.
pub(crate) fn authority(server: &str) -> Result<(Option<bool>, String), ClientError> {
    let invalid = |reason: &str| {
        ClientError::new(Code::InvalidArgument, format!("`{server}` is no server address: {reason}"))
            .with_help("write host:port, http://host:port or https://host:port, for example 127.0.0.1:7101")
    };
    let (scheme, rest) = match (server.strip_prefix("https://"), server.strip_prefix("http://")) {
        (Some(rest), _) => (Some(true), rest),
        (None, Some(rest)) => (Some(false), rest),
        (None, None) => (None, server),
    };
    let rest = rest.trim_end_matches('/');
    if let Err(what) = address::split(rest)
        && what.contains("brackets")
    {
        return Err(ClientError::new(Code::InvalidArgument, what));
    }
    let uri: Uri = format!("http://{rest}").parse().map_err(|_| invalid("it cannot be read"))?;
    match uri.authority() {
        Some(authority) if uri.path() == "/" && authority.port().is_some() => Ok((scheme, authority.to_string())),
        Some(_) => Err(invalid("the port is missing, or there is more than host and port")),
        None => Err(invalid("the host is missing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_with_and_without_a_scheme() {
        assert_eq!(authority("n1:7101").unwrap(), (None, "n1:7101".into()));
        assert_eq!(authority("http://[::1]:7101/").unwrap(), (Some(false), "[::1]:7101".into()));
        assert_eq!(authority("https://n1:7101").unwrap(), (Some(true), "n1:7101".into()));
        let message = authority("::1:7101").unwrap_err().message().to_owned();
        assert!(message.contains("in brackets: [::1]:7101"), "{message}");
        for wrong in ["n1", "https://n1", "http://n1:7101/x", "", "a b:1"] {
            assert_eq!(authority(wrong).unwrap_err().code(), "INVALID_ARGUMENT", "{wrong}");
        }
    }

    #[test]
    fn all_servers_are_spoken_to_over_tls_or_none() {
        let asked = |servers: &[&str], prefers_tls| {
            let servers: Vec<String> = servers.iter().map(|server| (*server).to_owned()).collect();
            authorities(&servers, prefers_tls).map(|(_, encrypted)| encrypted)
        };
        assert!(asked(&["https://a:1", "https://b:1"], false).unwrap());
        assert!(!asked(&["http://a:1", "b:1"], false).unwrap());
        assert!(asked(&["a:1"], true).unwrap() && !asked(&["http://a:1"], true).unwrap());
        for mixed in [["https://a:1", "http://b:1"], ["https://a:1", "b:1"]] {
            let error = asked(&mixed, false).unwrap_err();
            assert!(error.message().contains("b:1") && error.help().is_some(), "{error}");
        }
    }
}
