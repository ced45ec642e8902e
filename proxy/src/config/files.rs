//! Checks the files that a configuration names.

use std::path::{Path, PathBuf};

use super::findings::{Findings, SettingPath};
use super::{Config, EntryConfig};
use crate::backend::remote::RemoteConfig;
use crate::front::port::{Tls, TlsConfig, TlsError};
use crate::layer::{AccessError, AccessFile};

impl Config {
    /// Reports all problems that can be found without listening, writing or opening the store: contradictory settings, and
    /// unusable files.
    #[must_use]
    pub fn check(&self) -> Findings {
        let mut findings = self.contradictions();
        check_tls(&self.tls, &["tls"], &mut findings);
        for (index, EntryConfig { tls, .. }) in self.entries.iter().enumerate() {
            if let Some(tls) = tls {
                check_tls(tls, &["entries", &index.to_string(), "tls"], &mut findings);
            }
        }
        self.check_access(&mut findings);
        self.check_issuers_keys(&mut findings);
        if let Err(error) = self.otlp.check_files() {
            let remedy = "name a readable file of certificates in PEM";
            findings.error("otlp.ca_file", error.to_string(), remedy);
        }
        if let Some(file) = self.access_log.file.as_deref().filter(|file| *file != Path::new("-")) {
            check_target(file, "access_log.file", &mut findings);
        }
        if self.is_separated() {
            check_brokers(&self.backend.remote, &["backend", "remote"], &mut findings);
            for (name, cluster) in &self.backend.clusters {
                check_brokers(cluster, &["backend", "clusters", name], &mut findings);
            }
        } else {
            let directory = &self.backend.embedded.data_dir;
            if directory.exists() && !directory.is_dir() {
                let problem = format!("{} is not a directory", directory.display());
                findings.error(
                    "backend.embedded.data_dir",
                    problem,
                    "name a directory, or a path that does not exist yet",
                );
            }
        }
        findings
    }

    fn check_access(&self, findings: &mut Findings) {
        let Some(path) = &self.access.file else {
            if let Some(key) =
                self.access.key_file.as_ref().filter(|key| self.access.catalog && !key.exists())
            {
                check_target(key, "access.key_file", findings);
            }
            return;
        };
        let file = AccessFile::new(path, self.access.key_file.as_deref());
        // A start creates the file and the key if both are missing.
        if !file.exists() {
            check_target(file.path(), "access.file", findings);
            check_target(file.key_path(), "access.key_file", findings);
        } else if !file.key_path().exists() {
            let problem =
                format!("{} does not exist, and the secrets are sealed with it", file.key_path().display());
            let remedy = "restore the key, or move the file of users away and start with a new one";
            findings.error(SettingPath::from("access.file"), problem, remedy);
        } else if let Err(error) = file.read().and_then(|acl| file.acl_index(&acl)) {
            let remedy = "correct the file, or change it with `rocketmq-thin-proxy user` and `acl`";
            findings.error("access.file", in_one_line(&error), remedy);
        }
    }

    fn check_issuers_keys(&self, findings: &mut Findings) {
        for (index, issuer) in self.access.issuers.iter().enumerate() {
            if let Err(error) = issuer.check_keys() {
                let at = SettingPath::of(["access", "issuers", &index.to_string(), "keys_file"]);
                let remedy = "name a file with the issuer's JSON Web Key Set, or its public keys in PEM";
                findings.error(at, in_one_line(&error), remedy);
            }
        }
    }
}

/// Checks the path of a file that a start creates if it is missing.
fn check_target(file: &Path, setting: &str, findings: &mut Findings) {
    let directory = match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    if !directory.is_dir() {
        let problem = format!("the directory {} does not exist", directory.display());
        findings.error(setting, problem, "create the directory, or correct the path");
    } else if file.is_dir() {
        findings.error(setting, format!("{} is a directory", file.display()), "name a file");
    }
}

fn check_brokers(remote: &RemoteConfig, path: &[&str], findings: &mut Findings) {
    if let (Some(file), Err(error)) = (&remote.ca_file, remote.tls()) {
        let at = SettingPath::of(path.iter().copied().chain(["ca_file"]));
        let problem = format!("cannot read {}: {error}", file.display());
        findings.error(at, problem, "name a readable file of certificates in PEM");
    }
}

fn check_tls(tls: &TlsConfig, path: &[&str], findings: &mut Findings) {
    let Err(error) = Tls::new(tls) else { return };
    let (field, remedy) = match &error {
        TlsError::IncompletePair if tls.key.is_none() => ("certificate", "add key = \"FILE\" beside it"),
        TlsError::IncompletePair => ("key", "add certificate = \"FILE\" beside it"),
        TlsError::ClientCaBypassed => ("client_ca", "set mode = \"required\" beside it"),
        TlsError::ClientCa(_) => {
            ("client_ca", "name a file with at least one certificate of an authority in PEM")
        }
        TlsError::File { path, .. } if Some(path) == tls.key.as_ref() => {
            ("key", "name a private key in PEM that the proxy may read")
        }
        TlsError::File { path, .. } if Some(path) == tls.client_ca.as_ref() => {
            ("client_ca", "name a file of certificates in PEM that the proxy may read")
        }
        TlsError::File { .. } => {
            ("certificate", "name a file of certificates in PEM that the proxy may read")
        }
        TlsError::Unusable(_) => ("certificate", "use a certificate and the key that belongs to it"),
        TlsError::SelfSigned(_) => ("mode", "configure a certificate and its key"),
    };
    let text = error.to_string();
    let problem = text.strip_prefix("tls: ").unwrap_or(&text);
    findings.error(SettingPath::of(path.iter().copied().chain([field])), problem, remedy);
}

/// The text of an error on one line: a TOML error has several lines.
fn in_one_line(error: &AccessError) -> String {
    let AccessError::Parse { path, source } = error else { return error.to_string() };
    let text = source.to_string();
    let place = text.lines().next().unwrap_or_default();
    format!("{}: {place}: {}", path.display(), source.message())
}
