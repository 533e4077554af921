//! `HOST:PORT`, as people write it in configurations and on command lines: the one place that knows how a host of
//! colons (IPv6) is told from a port, and how a name that stands for several addresses is connected to.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{net::TcpStream, time::sleep};

/// An address that does not answer holds up the next one for so long: as in RFC 8305.
const STAGGER: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried.
const MOST_ADDRESSES: usize = 16;

/// Host and port. A host of the form `[::1]` is given without its brackets.
///
/// # Errors
/// Says what is wrong with the text.
pub fn split(address: &str) -> Result<(&str, u16), String> {
    let wrong = || format!("`{address}` is no address; write HOST:PORT");
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    if let Some(inside) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return match inside.split('%').next().unwrap_or(inside).parse::<std::net::Ipv6Addr>() {
            Ok(_) => Ok((inside, port)),
            Err(_) => Err(format!("`{address}` is no address; only an IPv6 address stands in brackets: [::1]:{port}")),
        };
    }
    if host.contains(':') {
        return Err(format!("`{address}` is no address; write an IPv6 address in brackets: [{host}]:{port}"));
    }
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || "[]/@".contains(c)) {
        return Err(wrong());
    }
    Ok((host, port))
}

/// The IP address of a `HOST:PORT` that is written with one and not with a name.
pub fn ip(address: &str) -> Option<IpAddr> {
    split(address).ok().and_then(|(host, _)| host.parse().ok())
}

/// Whether a `HOST:PORT` stands for all interfaces.
pub fn is_unspecified(address: &str) -> bool {
    ip(address).is_some_and(|ip| ip.is_unspecified())
}

/// The same text for the same address, however it is written.
pub fn normal(address: &str) -> String {
    address.parse::<SocketAddr>().map_or_else(|_| address.to_ascii_lowercase(), |address| address.to_string())
}

/// Connects to the first address of a `HOST:PORT` that answers. The next one is tried when one refuses, and beside one
/// that says nothing.
///
/// # Errors
/// When none of them answers: names each with its reason.
pub async fn connect(address: &str) -> io::Result<TcpStream> {
    let mut found: Vec<SocketAddr> = tokio::net::lookup_host(address).await?.collect();
    found.dedup();
    found.truncate(MOST_ADDRESSES);
    if found.len() == 1 {
        return TcpStream::connect(found[0]).await;
    }
    let (mut waiting, mut attempts) = (found.into_iter(), FuturesUnordered::new());
    let mut failures: Vec<(SocketAddr, io::Error)> = Vec::new();
    loop {
        match waiting.next() {
            Some(next) => attempts.push(async move { (next, TcpStream::connect(next).await) }),
            None if attempts.is_empty() => break,
            None => {}
        }
        let more = waiting.len() > 0;
        tokio::select! {
            Some((at, connected)) = attempts.next() => match connected {
                Ok(stream) => return Ok(stream),
                Err(error) => failures.push((at, error)),
            },
            () = sleep(STAGGER), if more => {}
        }
    }
    let Some((_, last)) = failures.last() else {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address")));
    };
    let each: Vec<String> = failures.iter().map(|(at, error)| format!("{at}: {error}")).collect();
    Err(io::Error::new(last.kind(), each.join("; ")))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_host_of_colons_stands_in_brackets() {
        assert_eq!(split("n1:7301"), Ok(("n1", 7301)));
        assert_eq!(split("[::1]:7301"), Ok(("::1", 7301)));
        assert_eq!(split("[fe80::1%eth0]:7301"), Ok(("fe80::1%eth0", 7301)));
        assert!(split("::1:7301").unwrap_err().ends_with("write an IPv6 address in brackets: [::1]:7301"));
        for wrong in ["n1", ":7301", "n1:seventy", "n1:70000", "[n1]:7301", "a b:1", "http://n1:7301", "[::1]"] {
            assert!(split(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_is_the_same_however_it_is_written() {
        assert_eq!(normal("[0:0::1]:7301"), normal("[::1]:7301"));
        assert_eq!(normal("Node-1:7301"), "node-1:7301");
        assert!(is_unspecified("[::]:7101") && is_unspecified("0.0.0.0:7101") && !is_unspecified("n1:7101"));
    }

    #[tokio::test]
    async fn every_address_of_a_name_is_tried() {
        // `localhost` stands for 127.0.0.1, and for ::1 where there is IPv6; only the first of them listens.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        connect(&format!("localhost:{port}")).await.unwrap();
        drop(listener);
        assert!(connect(&format!("localhost:{port}")).await.is_err());
    }
}
