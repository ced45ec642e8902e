//! Which issuers of session tokens are trusted.

use std::path::PathBuf;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde::{Deserialize, Serialize};

use super::key_set::KeySet;

/// What clocks of different machines may differ by at most.
const MAX_LEEWAY: Duration = Duration::from_secs(60 * 60);

/// An issuer of session tokens (JWT).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// What its tokens have as `iss`.
    pub issuer: String,
    /// What its tokens must have in `aud`: one of these.
    pub audiences: Vec<String>,
    /// The file with its public keys: a JSON Web Key Set, or public keys and certificates in PEM. It is read again when it
    /// changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys_file: Option<PathBuf>,
    /// Where the issuer publishes its JSON Web Key Set, instead of a file. It is fetched at the start, every five minutes, and
    /// when a token is signed with another key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys_url: Option<String>,
    /// The algorithms that its tokens may be signed with.
    #[serde(default = "all_algorithms")]
    pub algorithms: Vec<String>,
    /// How far its clock may be from the one here.
    #[serde(default = "leeway", with = "humantime_serde")]
    pub leeway: Duration,
    /// The claim that names the user.
    #[serde(default = "user_claim")]
    pub user_claim: String,
    /// What stands before that claim's text in the name of the user. With it, an issuer can't name users of others.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user_prefix: String,
}

/// A mistake: the field, what is wrong with it, and what helps.
pub type IssuerMistake = (&'static str, String, String);

/// The algorithms that may be trusted. With symmetric ones, whoever can check a token could also make one.
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
    /// What is wrong with each of these, by its index, without a look at the files.
    #[must_use]
    pub fn mistakes(issuers: &[Self]) -> Vec<(usize, IssuerMistake)> {
        let mut found = Vec::new();
        for (index, config) in issuers.iter().enumerate() {
            let mut mistake = |field, problem: &str, remedy: &str| {
                found.push((index, (field, problem.into(), remedy.into())))
            };
            if config.issuer.is_empty() {
                mistake("issuer", "it is empty", "write what the tokens have as iss");
            }
            if issuers[..index].iter().any(|other| other.issuer == config.issuer) {
                let remedy =
                    "merge them: one issuer may have several audiences, and several keys in its file";
                mistake("issuer", "two entries have this issuer", remedy);
            }
            match (&config.keys_file, &config.keys_url) {
                (None, None) => {
                    let remedy = "add keys_file = \"FILE\", or keys_url = \"https://…\"";
                    mistake("keys_file", "nothing says where its public keys are", remedy);
                }
                (Some(_), Some(_)) => {
                    mistake("keys_url", "there is a keys_file, too", "remove one of them");
                }
                (None, Some(url)) => {
                    if let Err(problem) = KeySet::at(url) {
                        mistake("keys_url", &problem, "write the https address of its JSON Web Key Set");
                    }
                }
                (Some(_), None) => {}
            }
            if config.audiences.is_empty() || config.audiences.iter().any(String::is_empty) {
                let problem = "it names no audience, or an empty one, so that tokens for other services would be accepted";
                mistake("audiences", problem, "write what the tokens for this proxy have as aud");
            }
            if config.user_claim.is_empty() {
                mistake("user_claim", "it is empty", "name a claim, such as sub");
            }
            if config.leeway > MAX_LEEWAY {
                mistake("leeway", "it is above one hour", "set the clocks, and write a few seconds");
            }
            if config.algorithms.is_empty() {
                mistake("algorithms", "there are none", "remove it to allow all asymmetric ones");
            }
            for name in &config.algorithms {
                let remedy = format!("write some of {}", ALGORITHMS.join(", "));
                if name.eq_ignore_ascii_case("none") || name.starts_with("HS") {
                    let problem =
                        format!("{name} is not allowed: everybody who can check such a token could make one");
                    mistake("algorithms", &problem, &remedy);
                } else if !ALGORITHMS.contains(&name.as_str()) {
                    mistake("algorithms", &format!("the algorithm {name:?} is not known"), &remedy);
                }
            }
        }
        found
    }

    /// The algorithms that are allowed.
    pub(super) fn allowed(&self) -> impl Iterator<Item = Algorithm> {
        let names = self.algorithms.iter().filter(|name| ALGORITHMS.contains(&name.as_str()));
        names.filter_map(|name| name.parse().ok())
    }
}
