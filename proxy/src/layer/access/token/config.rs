//! The configuration of trusted issuers of session tokens.

use std::path::PathBuf;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde::{Deserialize, Serialize};

use super::key_set::KeySet;

/// The largest allowed difference between the clocks of an issuer and the proxy.
const MAX_LEEWAY: Duration = Duration::from_secs(60 * 60);

/// An issuer of session tokens (JWT).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// The value of `iss` in the issuer's tokens.
    pub issuer: String,
    /// The accepted values of `aud`: a token must have one of these.
    pub audiences: Vec<String>,
    /// The file with the public keys: a JSON Web Key Set, or public keys and certificates in PEM. It is reloaded when it
    /// changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys_file: Option<PathBuf>,
    /// The URL at which the issuer publishes its JSON Web Key Set, instead of a file. It is fetched at the start, every five
    /// minutes, and when a token is signed with an unknown key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys_url: Option<String>,
    /// The accepted signature algorithms.
    #[serde(default = "all_algorithms")]
    pub algorithms: Vec<String>,
    /// The allowed difference between the issuer's and the proxy's clock.
    #[serde(default = "leeway", with = "crate::duration")]
    pub leeway: Duration,
    /// The claim with the user's name.
    #[serde(default = "user_claim")]
    pub user_claim: String,
    /// The prefix that is added to the claim to form the name of the user. It keeps an issuer from naming users of others.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user_prefix: String,
}

/// A mistake: the field, the problem, and the remedy.
pub type IssuerMistake = (&'static str, String, String);

/// The supported algorithms. Symmetric ones are excluded: a key that verifies tokens could also create them.
const ALGORITHMS: [&str; 9] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

fn all_algorithms() -> Vec<String> {
    ALGORITHMS.map(str::to_owned).to_vec()
}

fn leeway() -> Duration {
    Duration::from_secs(30)
}

fn user_claim() -> String {
    "sub".to_owned()
}

impl IssuerConfig {
    /// Checks issuers without reading their files. Returns the mistakes, each with the index of its issuer.
    #[must_use]
    pub fn mistakes(issuers: &[Self]) -> Vec<(usize, IssuerMistake)> {
        let mut found = Vec::new();
        for (index, config) in issuers.iter().enumerate() {
            let mut mistake = |field, problem: &str, remedy: &str| {
                found.push((index, (field, problem.into(), remedy.into())))
            };
            if config.issuer.is_empty() {
                mistake("issuer", "it is empty", "set it to the value of iss in the tokens");
            }
            if issuers[..index].iter().any(|other| other.issuer == config.issuer) {
                let remedy =
                    "merge them: one issuer may have several audiences, and several keys in its file";
                mistake("issuer", "two entries have this issuer", remedy);
            }
            match (&config.keys_file, &config.keys_url) {
                (None, None) => {
                    let remedy = "add keys_file = \"FILE\", or keys_url = \"https://…\"";
                    mistake("keys_file", "the issuer has no public keys", remedy);
                }
                (Some(_), Some(_)) => {
                    mistake("keys_url", "keys_file is also set", "remove one of them");
                }
                (None, Some(url)) => {
                    if let Err(problem) = KeySet::at(url) {
                        mistake(
                            "keys_url",
                            &problem,
                            "set it to the https URL of the issuer's JSON Web Key Set",
                        );
                    }
                }
                (Some(_), None) => {}
            }
            if config.audiences.is_empty() || config.audiences.iter().any(String::is_empty) {
                let problem =
                    "it has no audience, or an empty one: tokens for other services would be accepted";
                mistake("audiences", problem, "set it to the value of aud in tokens for this proxy");
            }
            if config.user_claim.is_empty() {
                mistake("user_claim", "it is empty", "name a claim, such as sub");
            }
            if config.leeway > MAX_LEEWAY {
                mistake("leeway", "it is above one hour", "synchronize the clocks, and set a few seconds");
            }
            if config.algorithms.is_empty() {
                mistake("algorithms", "it is empty", "remove it to allow all asymmetric algorithms");
            }
            for name in &config.algorithms {
                let remedy = format!("use some of {}", ALGORITHMS.join(", "));
                if name.eq_ignore_ascii_case("none") || name.starts_with("HS") {
                    let problem = format!(
                        "{name} is not allowed: a key that verifies such tokens could also create them"
                    );
                    mistake("algorithms", &problem, &remedy);
                } else if !ALGORITHMS.contains(&name.as_str()) {
                    mistake("algorithms", &format!("the algorithm {name:?} is not known"), &remedy);
                }
            }
        }
        found
    }

    /// The accepted signature algorithms.
    pub(super) fn allowed(&self) -> impl Iterator<Item = Algorithm> {
        let names = self.algorithms.iter().filter(|name| ALGORITHMS.contains(&name.as_str()));
        names.filter_map(|name| name.parse().ok())
    }
}
