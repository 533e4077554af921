//! Where a connection comes from: who is known by nothing else is known by that.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

/// Where a connection comes from, as far as it counts: an IPv4 address, or the network of an IPv6 address, since whoever
/// has one of its addresses has all of them. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin(Arc<str>);

impl Origin {
    /// Of `IP:port`, or whatever a network calls its addresses.
    pub fn of(from: &str) -> Self {
        let Ok(address) = from.parse::<SocketAddr>() else {
            return Self(from.rsplit_once(':').map_or(from, |(host, _)| host).into());
        };
        let known_as = match address.ip().to_canonical() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("{}/64", Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        };
        Self(known_as.into())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_one_address_of_a_network_has_all_of_them() {
        assert_eq!(Origin::of("10.0.0.1:1"), Origin::of("10.0.0.1:2"));
        assert_ne!(Origin::of("10.0.0.1:1"), Origin::of("10.0.0.2:1"));
        assert_eq!(Origin::of("[::ffff:10.0.0.1]:1"), Origin::of("10.0.0.1:1"));
        assert_eq!(Origin::of("[2001:db8:0:1::1]:1"), Origin::of("[2001:db8:0:1:ffff::2]:1"));
        assert_ne!(Origin::of("[2001:db8:0:1::1]:1"), Origin::of("[2001:db8:0:2::1]:1"));
        assert_eq!(Origin::of("n1:7100"), Origin::of("n1:7200"));
        let shown = ["10.0.0.1:1", "[2001:db8:0:1:ffff::2]:1", "n1:7100"].map(|from| Origin::of(from).to_string());
        assert_eq!(shown, ["10.0.0.1", "2001:db8:0:1::/64", "n1"]);
    }
}
