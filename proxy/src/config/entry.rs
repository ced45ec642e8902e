//! The configuration of entries: further addresses that the proxy listens on.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::findings::{Findings, SettingPath};
use super::names::is_valid_name;
use crate::front::port::TlsConfig;
use crate::front::route_addresses::Authority;

/// The names of the proxy's own ports in metrics. Entries can't have these names.
pub(crate) mod own_ports {
    pub(crate) const MAIN: &str = "main";
    pub(crate) const ADMIN: &str = "admin";
    pub(crate) const REMOTING: &str = "remoting";
    pub(crate) const METRICS: &str = "metrics";
    pub(super) const ALL: [&str; 4] = [MAIN, ADMIN, REMOTING, METRICS];
}

/// A further address to listen on, for clients of another network or with other rights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryConfig {
    /// The name in logs, quotas and metrics: letters, digits, `-` and `_`.
    pub name: String,
    /// The address to listen on, `host:port`. Port 0 picks a free one.
    pub listen: String,
    /// The protocols that are served [default: gRPC and the remoting protocol].
    #[serde(default = "EntryProtocol::all")]
    pub protocols: Vec<EntryProtocol>,
    /// Whether administration is also served [default: no].
    #[serde(default)]
    pub administration: bool,
    /// Whether users and policies apply [default: they do]. It has no effect without access control.
    #[serde(default)]
    pub access: EntryAccess,
    /// The addresses at which clients of this entry reach the fleet, `host:port`. Routes contain only these. By default, routes
    /// contain the address that the client has connected to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Authority>,
    /// The networks whose PROXY headers are trusted [default: the proxy's `trusted_proxies`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted_proxies: Option<Vec<IpNet>>,
    /// The maximum number of open connections [default: `transport.connections`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<usize>,
    /// TLS settings, which replace all of `[tls]` [default: `[tls]`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
}

/// A protocol of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryProtocol {
    /// gRPC.
    Grpc,
    /// The remoting protocol of classic clients.
    Remoting,
    /// HTTP with JSON. It is served only if it is listed.
    #[cfg(feature = "http")]
    Http,
}

/// Whether users and policies apply at an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryAccess {
    /// They apply.
    #[default]
    Required,
    /// Everybody who reaches the entry may do everything.
    Off,
}

impl EntryProtocol {
    fn all() -> Vec<Self> {
        vec![Self::Grpc, Self::Remoting]
    }
}

impl EntryConfig {
    /// Checks the names and protocols of entries.
    pub(super) fn check(entries: &[Self], findings: &mut Findings) {
        for (index, entry) in entries.iter().enumerate() {
            let at = |field: &str| SettingPath::of(["entries", &index.to_string(), field]);
            let name = &entry.name;
            if !is_valid_name(name) {
                let problem = format!("an entry can't be named {name:?}");
                findings.error(at("name"), problem, "use letters, digits, - and _");
            } else if own_ports::ALL.contains(&&**name) {
                let problem =
                    format!("an entry can't be named {name}: the name is reserved for a port of the proxy");
                findings.error(at("name"), problem, "choose another name");
            } else if entries[..index].iter().any(|other| other.name == *name) {
                findings.error(at("name"), format!("two entries are named {name}"), "rename one of them");
            }
            if entry.protocols.is_empty() {
                let problem = format!("entry {name} has no protocols");
                findings.error(at("protocols"), problem, "name at least one, or leave the line out");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(entries: &[EntryConfig]) -> Result<(), String> {
        let mut findings = Findings::default();
        EntryConfig::check(entries, &mut findings);
        findings.first_error().map_or(Ok(()), Err)
    }

    fn read(text: &str) -> Result<EntryConfig, String> {
        let entry: EntryConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        check(std::slice::from_ref(&entry)).map(|()| entry)
    }

    #[test]
    fn an_entry_needs_a_name_and_an_address() {
        let entry = read("name = 'public'\nlisten = '0.0.0.0:8443'").expect("an entry");
        assert_eq!(entry.protocols, [EntryProtocol::Grpc, EntryProtocol::Remoting]);
        assert!(!entry.administration && entry.access == EntryAccess::Required);
        let printed = toml::to_string(&entry).expect("TOML");
        assert_eq!(read(&printed).expect("the same"), entry);
        for wrong in [
            "name = 'public'",
            "name = 'metrics'\nlisten = 'a:1'",
            "name = 'a b'\nlisten = 'a:1'",
            "name = 'a'\nlisten = 'a:1'\nprotocols = []",
            "name = 'a'\nlisten = 'a:1'\nprotocols = ['smtp']",
            "name = 'a'\nlisten = 'a:1'\naddresses = ['mq.example.com']",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(check(&[entry.clone(), entry]).is_err());
    }
}
