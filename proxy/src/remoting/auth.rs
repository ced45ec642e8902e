//! Users and ACLs in the bodies of requests and answers (Apache's `UserInfo` and `AclInfo`, from 5.3 on).

use serde::{Deserialize, Serialize};

/// What the subjects of ACLs have before the name of a user.
pub const USER: &str = "User:";

/// A user.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserInfo {
    /// The access key.
    pub username: String,
    /// The secret key. Brokers list it; this proxy does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// `Super` or `Normal`.
    #[serde(default)]
    pub user_type: Option<String>,
    /// `enable` or `disable`.
    #[serde(default)]
    pub user_status: Option<String>,
}

/// What a user may do, and may not.
#[derive(Serialize, Deserialize)]
pub struct AclInfo {
    /// `User:` and the name.
    pub subject: String,
    /// By their type.
    #[serde(default)]
    pub policies: Vec<PolicyInfo>,
}

/// Policies of one type.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyInfo {
    /// `Custom`, or `Default` for those that count only if no other applies. `Custom` if it is absent.
    #[serde(default)]
    pub policy_type: Option<String>,
    /// The policies.
    #[serde(default)]
    pub entries: Vec<EntryInfo>,
}

/// One policy.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryInfo {
    /// Such as `Topic:orders*`.
    pub resource: String,
    /// Such as `Pub`.
    #[serde(default)]
    pub actions: Vec<String>,
    /// The addresses and networks that requests come from. Everywhere without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ips: Option<Vec<String>>,
    /// `Allow` or `Deny`.
    #[serde(default)]
    pub decision: Option<String>,
}
