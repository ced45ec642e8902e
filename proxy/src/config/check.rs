//! Checks settings against each other. A contradiction is an error, which prevents a start; a setting without effect is a
//! warning.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

#[cfg(feature = "console")]
use super::EntryProtocol;
use super::findings::{Findings, SettingPath};
use super::names::is_valid_name;
use super::{Config, EntryAccess, EntryConfig};
use crate::backend::embedded::EmbeddedConfig;
use crate::backend::remote::RemoteConfig;
use crate::front::port::{TlsConfig, TlsMode};
use crate::layer::{AccessConfig, IssuerConfig, Quotas};
use crate::otlp::OtlpError;

impl Config {
    /// Checks the settings without reading the files that they name.
    #[must_use]
    pub fn contradictions(&self) -> Findings {
        let mut findings = Findings::default();
        self.check_addresses(&mut findings);
        EntryConfig::check(&self.entries, &mut findings);
        if self.limits.min_polling > self.limits.max_polling {
            let remedy = "lower it, or raise limits.max_polling";
            findings.error("limits.min_polling", "it is above limits.max_polling", remedy);
        }
        self.check_clusters(&mut findings);
        if let Err(error) = self.access_log.check() {
            findings.error("access_log.sample", error.to_string(), "give a share such as 0.01, or 1 for all");
        }
        if !self.message_trace.has_valid_sample() {
            let problem =
                format!("the share {} of messages is not between 0 and 1", self.message_trace.sample);
            findings.error("message_trace.sample", problem, "give a share such as 0.01, or 1 for all");
        }
        if let Err(error) = self.otlp.check() {
            let setting = match &error {
                OtlpError::Endpoint(_) => "otlp.endpoint",
                OtlpError::CaWithoutTls | OtlpError::Ca { .. } => "otlp.ca_file",
                OtlpError::Header(_) => "otlp.headers",
                OtlpError::Sample(_) => "otlp.sample",
                OtlpError::Interval(_) => "otlp.metrics_interval",
            };
            findings.error(setting, error.to_string(), "correct it, or remove it");
        }
        for (index, problem) in Quotas::mistakes(&self.quotas, self.access.is_on()) {
            let at = SettingPath::of(["quotas", &index.to_string()]);
            findings.error(at, problem, "correct this quota, or remove it");
        }
        self.check_access_source(&mut findings);
        self.check_issuers(&mut findings);
        self.check_unused(&mut findings);
        self.check_exposed(&mut findings);
        self.check_fleet(&mut findings);
        findings
    }

    /// Whether Apache's brokers store the messages.
    #[must_use]
    pub fn is_separated(&self) -> bool {
        !self.backend.remote.name_server.is_empty()
    }

    /// All addresses to listen on, with the settings that they come from.
    fn addresses(&self) -> Vec<(SettingPath, &str)> {
        let mut addresses = vec![(SettingPath::from("listen"), self.listen.as_str())];
        for (name, address) in [
            ("admin_listen", &self.admin_listen),
            ("remoting.listen", &self.remoting.listen),
            ("metrics.listen", &self.metrics.listen),
        ] {
            addresses.extend(address.as_deref().map(|address| (SettingPath::from(name), address)));
        }
        for (index, entry) in self.entries.iter().enumerate() {
            addresses.push((SettingPath::of(["entries", &index.to_string(), "listen"]), &entry.listen));
        }
        addresses
    }

    fn check_addresses(&self, findings: &mut Findings) {
        let addresses = self.addresses();
        for (index, (setting, address)) in addresses.iter().enumerate() {
            let Some((host, port)) = split_address(address) else {
                let problem = format!("{address:?} is not a host and a port");
                findings.error(setting.clone(), problem, "write HOST:PORT, such as 0.0.0.0:8081");
                continue;
            };
            let same = |(_, other): &&(SettingPath, &str)| split_address(other) == Some((host, port));
            if port != 0
                && let Some((other, _)) = addresses[..index].iter().find(same)
            {
                let problem = format!("{other} also listens on {address}");
                findings.error(setting.clone(), problem, "give one of them another port");
            }
        }
    }

    /// Checks clusters and placement rules without contacting any broker.
    fn check_clusters(&self, findings: &mut Findings) {
        let clusters = &self.backend.clusters;
        if !clusters.is_empty() && !self.is_separated() {
            let problem = "backend.clusters is set, but backend.remote has no name_server";
            let remedy =
                "set backend.remote.name_server, which serves the requests that no placement matches";
            findings.error("backend.clusters", problem, remedy);
        }
        for (name, cluster) in clusters {
            let at = SettingPath::of(["backend", "clusters", name]);
            // Receipt handles contain the name, terminated by a dot.
            if !is_valid_name(name) {
                let problem = format!("a cluster can't be named {name:?}");
                findings.error(at.clone(), problem, "use letters, digits, - and _");
            }
            if cluster.name_server.is_empty() {
                let problem = "the cluster has no name_server";
                findings.error(at, problem, "add name_server = \"HOST:PORT\"");
            }
        }
        for (index, rule) in self.placement.iter().enumerate() {
            if !clusters.contains_key(&rule.cluster) {
                let at = SettingPath::of(["placement", &index.to_string(), "cluster"]);
                let problem = format!("there is no cluster {} in backend.clusters", rule.cluster);
                let remedy = format!("add [backend.clusters.{}], or name an existing cluster", rule.cluster);
                findings.error(at, problem, remedy);
            }
            if let Err(problem) = rule.check() {
                let at = SettingPath::of(["placement", &index.to_string(), "percent"]);
                findings.error(at, problem, "write a number from 0 to 100");
            }
        }
    }

    /// Checks that users and policies have one source, and that the source exists.
    fn check_access_source(&self, findings: &mut Findings) {
        let AccessConfig { file, catalog, brokers, .. } = &self.access;
        let sources =
            [("access.file", file.is_some()), ("access.catalog", *catalog), ("access.brokers", *brokers)];
        let mut given = sources.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name);
        if let (Some(first), Some(at)) = (given.next(), given.next()) {
            let problem = format!("{first} is also set, but users come from one source only");
            findings.error(at, problem, "remove one of the two");
        }
        if *catalog && self.is_separated() {
            let problem =
                "the catalog belongs to the embedded broker, but Apache's brokers store the messages";
            findings.error(
                "access.catalog",
                problem,
                "use access.brokers if the brokers have users, or access.file",
            );
        }
        if !brokers {
            return;
        }
        let at = "access.brokers";
        if !self.is_separated() {
            let problem = "no Apache brokers are configured";
            let remedy = "set backend.remote.name_server, or use access.file or access.catalog";
            findings.error(at, problem, remedy);
        } else if self.backend.remote.credentials.is_none() {
            let problem = "brokers list their users to super users only, but no credentials are configured";
            findings.error(
                at,
                problem,
                "set backend.remote.credentials to those of a super user of the brokers",
            );
        }
    }

    fn check_issuers(&self, findings: &mut Findings) {
        let issuers = &self.access.issuers;
        if !issuers.is_empty() && !self.access.is_on() {
            let problem =
                "issuers of session tokens are configured, but there are no users that tokens could name";
            findings.error(
                "access.issuers",
                problem,
                "set access.file, access.catalog or access.brokers, or remove the issuers",
            );
        }
        for (index, (field, problem, remedy)) in IssuerConfig::mistakes(issuers) {
            let at = SettingPath::of(["access", "issuers", &index.to_string(), field]);
            findings.error(at, problem, remedy);
        }
    }

    /// Warns about settings that have no effect because of other settings.
    fn check_unused(&self, findings: &mut Findings) {
        let defaults = Self::default().backend;
        // `--auto-create-topics` and `--auto-create-groups` set these in both sections.
        let embedded = EmbeddedConfig {
            auto_create_topics: self.backend.embedded.auto_create_topics,
            auto_create_groups: self.backend.embedded.auto_create_groups,
            ..defaults.embedded
        };
        let remote =
            RemoteConfig { auto_create_topics: self.backend.remote.auto_create_topics, ..defaults.remote };
        if self.is_separated() && self.backend.embedded != embedded {
            let problem = "it has no effect: backend.remote.name_server is set, so that Apache's brokers store the messages";
            findings.warn("backend.embedded", problem, "remove the section, or the name server");
        }
        if !self.is_separated() && self.backend.remote != remote {
            let problem = "it has no effect without name_server: the embedded broker stores the messages";
            findings.warn(
                "backend.remote",
                problem,
                "add name_server = \"HOST:PORT\", or remove the section",
            );
        }
        if self.access.file.is_none() && !self.access.catalog && self.access.key_file.is_some() {
            let problem = "it has no effect without access.file or access.catalog, whose secrets it seals";
            findings.warn("access.key_file", problem, "set one of these, or remove this setting");
        }
        if !self.access.is_on() {
            let open = self.entries.iter().enumerate().filter(|(_, entry)| entry.access == EntryAccess::Off);
            for (index, _) in open {
                let at = SettingPath::of(["entries", &index.to_string(), "access"]);
                let problem =
                    "it has no effect without access control: everybody may do everything at every entry";
                findings.warn(at, problem, "set access.file or access.catalog, or remove this setting");
            }
        }
        if self.access_log.slow.is_some() && self.access_log.file.is_none() {
            let problem = "it has no effect without access_log.file: there is no access log";
            findings.warn("access_log.slow", problem, "set access_log.file, or remove this setting");
        }
        #[cfg(feature = "console")]
        if self.http.console && !self.serves_http_administration() {
            let problem = "it has no effect: no address serves both HTTP and administration";
            findings.warn("http.console", problem, "set http.enabled = true, or remove this setting");
        }
        if !self.message_trace.users.is_empty() && !self.access.is_on() {
            let problem = "it has no effect without access control: requests have no users";
            findings.warn(
                "message_trace.users",
                problem,
                "set access.file, access.catalog or access.brokers, or name topics instead",
            );
        }
        if self.message_trace.sample < 1.0 && !self.message_trace.is_enabled() {
            let problem = "it has no effect: no messages are traced";
            findings.warn(
                "message_trace.sample",
                problem,
                "set message_trace.topics, or remove this setting",
            );
        }
        let tls = |findings: &mut Findings, at: SettingPath, tls: &TlsConfig| {
            if tls.mode == TlsMode::Off && tls.certificate.is_some() {
                findings.warn(at, "it has no effect with mode = \"off\"", "remove it, or change tls.mode");
            }
        };
        tls(findings, SettingPath::from("tls.certificate"), &self.tls);
        for (index, entry) in self.entries.iter().enumerate() {
            if let Some(own) = &entry.tls {
                tls(findings, SettingPath::of(["entries", &index.to_string(), "tls", "certificate"]), own);
            }
        }
    }

    /// Whether administration is served over HTTP, at `listen`, `admin_listen` or an entry.
    #[cfg(feature = "console")]
    fn serves_http_administration(&self) -> bool {
        let of_entry =
            |entry: &EntryConfig| entry.administration && entry.protocols.contains(&EntryProtocol::Http);
        self.http.enabled || self.entries.iter().any(of_entry)
    }

    /// Warns about addresses with access control that accept plaintext from other machines, and about addresses where others can
    /// administer the proxy without it.
    fn check_exposed(&self, findings: &mut Findings) {
        if !self.access.is_on() {
            return;
        }
        let mut check = |at: SettingPath, address: &str, tls: &TlsConfig| {
            if tls.mode != TlsMode::Required && !is_local(address) {
                let problem = "this address has access control but accepts plaintext from other machines: messages can be \
                               read and changed in transit, and signatures can be replayed";
                findings.warn(at, problem, "set mode = \"required\" in its [tls], or listen on 127.0.0.1");
            }
        };
        check(SettingPath::from("listen"), &self.listen, &self.tls);
        for (name, address) in
            [("admin_listen", &self.admin_listen), ("remoting.listen", &self.remoting.listen)]
        {
            if let Some(address) = address {
                check(SettingPath::from(name), address, &self.tls);
            }
        }
        for (index, entry) in self.entries.iter().enumerate() {
            if entry.access == EntryAccess::Required {
                let at = SettingPath::of(["entries", &index.to_string(), "listen"]);
                check(at, &entry.listen, entry.tls.as_ref().unwrap_or(&self.tls));
            }
        }
        let open = |entry: &EntryConfig| entry.access == EntryAccess::Off && entry.administration;
        for (index, entry) in self.entries.iter().enumerate().filter(|(_, entry)| open(entry)) {
            if !is_local(&entry.listen) {
                let at = SettingPath::of(["entries", &index.to_string(), "administration"]);
                let problem = "anyone who can reach this entry may administer the proxy, its users and policies included";
                findings.warn(at, problem, "remove it, set access = \"required\", or listen on 127.0.0.1");
            }
        }
    }

    /// Checks the settings that all proxies of a fleet must share.
    fn check_fleet(&self, findings: &mut Findings) {
        if self.learn_fleet_size && !self.is_separated() {
            let problem = "it has no effect in merged mode, where proxies do not share brokers";
            findings.warn("learn_fleet_size", problem, "set fleet_size to the number of proxies instead");
        }
        if self.handle_key.is_some() {
            return;
        }
        let remedy = "set the same secret on every proxy, preferably as ROCKETMQ_THIN_PROXY_HANDLE_KEY in the environment";
        if self.is_separated() {
            let problem = "it is missing: other proxies will not accept the receipt handles of this proxy, nor will this \
                           proxy after a restart";
            findings.warn("handle_key", problem, remedy);
        } else if self.fleet_size.get() > 1 {
            let problem =
                "it is missing: the proxies of the fleet will not accept each other's receipt handles";
            findings.warn("handle_key", problem, remedy);
        }
    }
}

/// Splits `host:port`. `None` if the address has no such form.
fn split_address(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse().ok()?;
    // The system accepts an IPv6 address with or without brackets.
    let is_unambiguous = !host.contains(':')
        || without_brackets(host).parse::<Ipv6Addr>().is_ok()
        || address.parse::<SocketAddr>().is_ok();
    (!host.is_empty() && is_unambiguous).then_some((host, port))
}

/// Whether only this machine can reach the address.
fn is_local(address: &str) -> bool {
    let host = split_address(address).map_or(address, |(host, _)| host);
    host == "localhost" || without_brackets(host).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A host without the brackets of an IPv6 address.
fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for (address, host) in [
            ("a:1", "a"),
            ("127.0.0.1:1", "127.0.0.1"),
            ("[::1]:1", "[::1]"),
            (":::1", "::"),
            ("::1:1", "::1"),
        ] {
            assert_eq!(split_address(address), Some((host, 1)), "{address}");
        }
        for address in ["", "1", "a", ":1", "a:", "a:65536", "http://a:1", "[::1]"] {
            assert_eq!(split_address(address), None, "{address}");
        }
        for (address, local) in
            [("localhost:1", true), ("127.3.0.1:1", true), ("[::1]:1", true), ("0.0.0.0:1", false)]
        {
            assert_eq!(is_local(address), local, "{address}");
        }
    }
}
