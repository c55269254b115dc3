//! Which proxy TCP connections to supernodes go through: as the command line says, else the settings, else the
//! environment in the variables that other programs use.

use std::{fmt, net::IpAddr, str::FromStr};

use ahoy_transport::{
    identity::Host,
    tunnel::proxy::{ParseProxyError, Proxy},
};

/// Variables that name a proxy, best first. Lower case wins, as with curl.
const VARIABLES: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
/// Variables that name hosts which are reached without.
const EXCEPTIONS: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// What somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyChoice {
    /// No proxy, whatever else is said.
    Never,
    /// This one.
    Use(Proxy),
}

impl FromStr for ProxyChoice {
    type Err = ParseProxyError;

    fn from_str(text: &str) -> Result<Self, ParseProxyError> {
        match text {
            "none" => Ok(Self::Never),
            proxy => proxy.parse().map(Self::Use),
        }
    }
}

impl fmt::Display for ProxyChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("none"),
            Self::Use(proxy) => proxy.fmt(f),
        }
    }
}

impl serde::Serialize for ProxyChoice {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ProxyChoice {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The proxy for connections to `hosts`. `variable` reads the environment.
///
/// A variable that names no proxy for us is left alone: it was set for other programs.
#[must_use]
pub fn choose<'a>(
    asked: Option<&ProxyChoice>,
    settings: Option<&ProxyChoice>,
    variable: impl Fn(&str) -> Option<String>,
    hosts: impl IntoIterator<Item = &'a Host>,
) -> Option<Proxy> {
    match asked.or(settings) {
        Some(ProxyChoice::Never) => return None,
        Some(ProxyChoice::Use(proxy)) => return Some(proxy.clone()),
        None => {}
    }
    let set = |name: &&str| variable(name).filter(|text| !text.is_empty());
    let text = VARIABLES.iter().find_map(set)?;
    let exceptions = EXCEPTIONS.iter().find_map(set).unwrap_or_default();
    if hosts.into_iter().all(|host| is_exempt(host, &exceptions)) {
        return None;
    }
    // curl takes a bare host for an HTTP proxy.
    let spelled = if text.contains("://") {
        text
    } else {
        format!("http://{text}")
    };
    spelled
        .parse()
        .inspect_err(|error| tracing::warn!(%error, "the environment's proxy is not used"))
        .ok()
}

/// Whether `host` is reached without a proxy: this machine, and what `exceptions` names, a list of domains with all
/// below them, of addresses, or `*`.
fn is_exempt(host: &Host, exceptions: &str) -> bool {
    let name = match host {
        Host::Ip(ip) if ip.is_loopback() => return true,
        Host::Ip(ip) => ip.to_string(),
        Host::Name(name) if name == "localhost" => return true,
        Host::Name(name) => name.clone(),
    };
    exceptions
        .split([',', ' '])
        .map(|entry| entry.trim().trim_start_matches('.').to_ascii_lowercase())
        .filter(|entry| !entry.is_empty())
        .any(|entry| {
            let below = || {
                name.strip_suffix(&entry)
                    .is_some_and(|rest| rest.ends_with('.'))
            };
            let is_domain = entry.parse::<IpAddr>().is_err();
            entry == "*" || entry == name || (is_domain && below())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        text.parse().unwrap()
    }

    fn from(variables: &[(&str, &str)], to: &str) -> Option<String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        choose(None, None, variable, [&host(to)]).map(|proxy| proxy.to_string())
    }

    #[test]
    fn the_command_line_wins_over_settings_and_these_over_the_environment() {
        let environment = |_: &str| Some("http://env:1".to_owned());
        let to = host("node.example");
        let (flag, settings): (ProxyChoice, ProxyChoice) = (
            "http://flag:1".parse().unwrap(),
            "http://set:1".parse().unwrap(),
        );
        let chosen =
            |flag, settings| choose(flag, settings, environment, [&to]).map(|proxy| proxy.place());
        assert_eq!(chosen(Some(&flag), Some(&settings)), Some("flag:1".into()));
        assert_eq!(chosen(None, Some(&settings)), Some("set:1".into()));
        assert_eq!(chosen(None, None), Some("env:1".into()));
        let never: ProxyChoice = "none".parse().unwrap();
        assert_eq!(chosen(Some(&never), Some(&settings)), None);
        assert_eq!(chosen(None, Some(&never)), None);
    }

    #[test]
    fn the_environment_is_read_as_other_programs_do() {
        let to = "node.example";
        assert_eq!(from(&[], to), None);
        let both = [("ALL_PROXY", "socks5://a:1"), ("https_proxy", "b:2")];
        assert_eq!(from(&both, to), Some("http://b:2".into()));
        assert_eq!(from(&[("https_proxy", "")], to), None);
        assert_eq!(from(&[("HTTPS_PROXY", "https://a:1")], to), None);
        for (exceptions, exempt) in [
            ("*", true),
            ("other.org, .Example", true),
            ("node.example", true),
            ("de.example", false),
            ("1.2.3.4", false),
        ] {
            let set = [("HTTPS_PROXY", "http://a:1"), ("NO_PROXY", exceptions)];
            assert_eq!(from(&set, to).is_none(), exempt, "{exceptions}");
        }
        for here in ["127.0.0.1", "[::1]", "localhost"] {
            assert_eq!(from(&[("HTTPS_PROXY", "http://a:1")], here), None);
        }
    }
}
