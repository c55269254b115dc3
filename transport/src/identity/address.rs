//! Where a node is, and which key it must prove there: `key@host:port`, or `key@host:port?tcp=port` when it listens for
//! [tunnels](crate::tunnel) too.
//!
//! One spelling each: hosts are IPv4 addresses, IPv6 addresses in brackets (RFC 5952) or lower-case DNS
//! names; ports have no leading zero.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use super::NodeId;

/// Length of the longest node address as text, in bytes: key, `@`, a DNS name, `:` and a port, `?tcp=` and a port.
pub const MAX_NODE_ADDRESS_LEN: usize = 52 + 1 + MAX_NAME_LEN + 6 + TCP.len() + 5;
/// What stands before the TCP port.
const TCP: &str = "?tcp=";
/// RFC 1035 section 2.3.4, written without the final dot.
const MAX_NAME_LEN: usize = 253;
const MAX_LABEL_LEN: usize = 63;

/// A host as it is written in an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// An IP address.
    Ip(IpAddr),
    /// A DNS name: lower case, without the final dot.
    Name(String),
}

/// Why a text is no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing is there.
    #[error("the host is missing")]
    Empty,
    /// An IPv6 address without its brackets, or something else with a colon in it.
    #[error("an IPv6 address is written in brackets, as in [2001:db8::1]")]
    Brackets,
    /// An address in another spelling than the usual one.
    #[error("write the address as {0}")]
    Spelling(String),
    /// A letter that DNS names do not have.
    #[error("a host name holds a-z, 0-9, hyphens and dots; {0:?} is none of these")]
    Character(char),
    /// An empty or overlong label, or one that starts or ends with a hyphen.
    #[error("{0:?} is not a host name")]
    Name(String),
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        if let Some(inner) = text.strip_prefix('[') {
            let address: Ipv6Addr = inner
                .strip_suffix(']')
                .and_then(|inner| inner.parse().ok())
                .ok_or(HostError::Brackets)?;
            return canonical(IpAddr::V6(address), text);
        }
        if text.contains(':') {
            return Err(HostError::Brackets);
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return canonical(IpAddr::V4(address), text);
        }
        if let Some(character) = text
            .chars()
            .find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-' | '.'))
        {
            return Err(HostError::Character(character));
        }
        let label_ok = |label: &str| {
            !label.is_empty()
                && label.len() <= MAX_LABEL_LEN
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // A last label of digits would be taken for an IPv4 address by some resolvers.
        let numeric = text
            .rsplit('.')
            .next()
            .is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
        if text.len() > MAX_NAME_LEN || numeric || !text.split('.').all(label_ok) {
            return Err(HostError::Name(text.chars().take(64).collect()));
        }
        Ok(Self::Name(text.to_owned()))
    }
}

fn canonical(address: IpAddr, text: &str) -> Result<Host, HostError> {
    let host = Host::Ip(address);
    let spelling = host.to_string();
    if spelling == text {
        Ok(host)
    } else {
        Err(HostError::Spelling(spelling))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V4(address)) => address.fmt(f),
            Self::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// A node's key and where it listens.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeAddress {
    /// The key the node proves.
    pub node: NodeId,
    /// Where it is.
    pub host: Host,
    /// Its UDP port, never 0.
    pub port: u16,
    /// Its TCP port, never 0, if it says that it has one.
    pub tcp: Option<u16>,
}

impl NodeAddress {
    /// The address of a node at an IP address.
    #[must_use]
    pub fn new(node: NodeId, addr: SocketAddr) -> Self {
        Self {
            node,
            host: Host::Ip(addr.ip()),
            port: addr.port(),
            tcp: None,
        }
    }

    /// The socket address, unless the host is a name that must be looked up.
    #[must_use]
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match &self.host {
            Host::Ip(address) => Some(SocketAddr::new(*address, self.port)),
            Host::Name(_) => None,
        }
    }
}

/// Why a text is no node address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeAddressError {
    /// There is no `@`.
    #[error("a node is written key@host:port; there is no @ in {0:?}")]
    NoKey(String),
    /// What stands before the `@` is not 52 characters of z-base-32.
    #[error("the node's key (before the @) is not a key: 52 characters of z-base-32 are expected")]
    Key,
    /// The bytes are no key under which anything can be proved.
    #[error("the node's key (before the @) is not a usable key; was it typed by hand?")]
    UnusableKey,
    /// There is no `:` and port at the end.
    #[error("the port is missing: write key@host:port")]
    NoPort,
    /// Not a number from 1 to 65535.
    #[error("{0:?} is not a port: write a number from 1 to 65535")]
    Port(String),
    /// Something else than `?tcp=` behind the port.
    #[error("{0:?} cannot stand behind the node's port: only ?tcp= and a port can")]
    Parameter(String),
    /// What stands between is no host.
    #[error("the node's host: {0}")]
    Host(#[from] HostError),
}

impl FromStr for NodeAddress {
    type Err = NodeAddressError;

    fn from_str(text: &str) -> Result<Self, NodeAddressError> {
        let (key, place) = text
            .split_once('@')
            .ok_or_else(|| NodeAddressError::NoKey(text.chars().take(64).collect()))?;
        let node: NodeId = key.parse().map_err(|_not_a_key| NodeAddressError::Key)?;
        if node.noise_static().is_none() {
            return Err(NodeAddressError::UnusableKey);
        }
        let (place, tcp) = match place.find('?') {
            None => (place, None),
            Some(at) => {
                let (place, parameter) = place.split_at(at);
                let port = parameter.strip_prefix(TCP).ok_or_else(|| {
                    NodeAddressError::Parameter(parameter.chars().take(16).collect())
                })?;
                (place, Some(read_port(port)?))
            }
        };
        let (host, port) = match place.rsplit_once(':') {
            // In an IPv6 address without a port the last colon is inside the brackets.
            Some((host, port)) if !port.contains(']') => (host, port),
            Some(_) | None => return Err(NodeAddressError::NoPort),
        };
        Ok(Self {
            node,
            host: host.parse()?,
            port: read_port(port)?,
            tcp,
        })
    }
}

/// A number from 1 to 65535 in its one spelling.
fn read_port(port: &str) -> Result<u16, NodeAddressError> {
    let digits = !port.starts_with('0') && port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(number) if digits => Ok(number),
        Ok(_) | Err(_) => Err(NodeAddressError::Port(port.chars().take(16).collect())),
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}", self.node, self.host, self.port)?;
        match self.tcp {
            Some(port) => write!(f, "{TCP}{port}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for NodeAddress {
    /// The key only: where people's nodes are does not belong in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeAddress({:?}, …)", self.node)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::identity::NodeKeys;

    fn node() -> NodeId {
        NodeKeys::from_seed(&[1; 32]).id()
    }

    fn parse(place: &str) -> Result<NodeAddress, NodeAddressError> {
        format!("{}@{place}", node()).parse()
    }

    #[test]
    fn every_kind_of_host_is_read_and_written_alike() {
        for place in [
            "192.0.2.1:443",
            "[2001:db8::1]:1",
            "a.example-1.org:65535",
            "localhost:9000",
            "192.0.2.1:4433?tcp=443",
            "[2001:db8::1]:1?tcp=65535",
        ] {
            let address = parse(place).unwrap();
            assert_eq!(address.to_string(), format!("{}@{place}", node()));
        }
        assert_eq!(
            parse("[::1]:5").unwrap().socket_addr(),
            Some("[::1]:5".parse().unwrap())
        );
        assert_eq!(parse("a.org:5").unwrap().socket_addr(), None);
    }

    #[test]
    fn mistakes_are_named() {
        use NodeAddressError as E;
        assert!(matches!(
            "192.0.2.1:443".parse::<NodeAddress>(),
            Err(E::NoKey(_))
        ));
        assert_eq!("abc@192.0.2.1:443".parse::<NodeAddress>(), Err(E::Key));
        let order_four = NodeId([0; 32]);
        assert_eq!(
            format!("{order_four}@a.org:1").parse::<NodeAddress>(),
            Err(E::UnusableKey)
        );
        assert_eq!(parse("192.0.2.1"), Err(E::NoPort));
        assert_eq!(parse("[::1]"), Err(E::NoPort));
        for port in ["0", "65536", "+5", "05", "", "x"] {
            assert_eq!(parse(&format!("a.org:{port}")), Err(E::Port(port.into())));
        }
        for port in ["0", "65536", "+5", "05", "", "x", "1?tcp=2"] {
            assert_eq!(
                parse(&format!("a.org:1?tcp={port}")),
                Err(E::Port(port.into()))
            );
        }
        assert_eq!(parse("a.org:1?udp=1"), Err(E::Parameter("?udp=1".into())));
        assert_eq!(parse("a.org?tcp=1"), Err(E::NoPort));
        assert_eq!(parse("2001:db8::1:443"), Err(E::Host(HostError::Brackets)));
        assert_eq!(parse(":443"), Err(E::Host(HostError::Empty)));
        assert_eq!(
            parse("[2001:DB8::1]:1"),
            Err(E::Host(HostError::Spelling("[2001:db8::1]".into())))
        );
        assert_eq!(
            parse("Example.org:1"),
            Err(E::Host(HostError::Character('E')))
        );
        for host in [
            "a..b",
            "-a",
            "a-",
            "a.",
            "1.2.3",
            "256.0.0.1",
            &"a".repeat(64),
            &"a.".repeat(127),
        ] {
            assert!(
                matches!(
                    parse(&format!("{host}:1")),
                    Err(E::Host(HostError::Name(_)))
                ),
                "{host}"
            );
        }
    }

    proptest! {
        #[test]
        fn one_spelling_per_address(place in "[a-z0-9.:\\[\\]-]{0,24}", port in 0u32..70_000) {
            for place in [format!("{place}:{port}"), format!("a:1?tcp={port}"), place] {
                if let Ok(address) = parse(&place) {
                    prop_assert_eq!(address.to_string(), format!("{}@{}", node(), place));
                }
            }
        }

        #[test]
        fn addresses_round_trip(ip: IpAddr, port in 1u16.., tcp in proptest::option::of(1u16..)) {
            let mut address = NodeAddress::new(node(), SocketAddr::new(ip, port));
            address.tcp = tcp;
            prop_assert_eq!(address.to_string().parse(), Ok(address.clone()));
            prop_assert!(address.to_string().len() <= MAX_NODE_ADDRESS_LEN);
        }

        #[test]
        fn garbage_is_an_error(text: String) {
            prop_assert!(text.parse::<NodeAddress>().is_err());
        }
    }
}
