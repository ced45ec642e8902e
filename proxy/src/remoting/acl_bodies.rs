//! Users and ACLs in the bodies of requests and answers (Apache's `UserInfo` and `AclInfo`, from 5.3 on).

use serde::{Deserialize, Serialize};

/// The prefix of a user's name in the subjects of ACLs.
pub const USER: &str = "User:";

/// A user.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserInfo {
    /// The access key.
    pub username: String,
    /// The secret key. Brokers include it in lists of users; this proxy does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// `Super` or `Normal`.
    #[serde(default)]
    pub user_type: Option<String>,
    /// `enable` or `disable`.
    #[serde(default)]
    pub user_status: Option<String>,
}

/// The policies of a user.
#[derive(Serialize, Deserialize)]
pub struct AclInfo {
    /// `User:` and the user's name.
    pub subject: String,
    /// The policies, grouped by type.
    #[serde(default)]
    pub policies: Vec<PolicyInfo>,
}

/// Policies of one type.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyInfo {
    /// `Custom`, or `Default` for policies that apply only if no other policy does. Absent means `Custom`.
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
    /// The resource, such as `Topic:orders*`.
    pub resource: String,
    /// The actions, such as `Pub`.
    #[serde(default)]
    pub actions: Vec<String>,
    /// The addresses and networks of the requests to which the policy applies. If absent or empty, it applies to all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ips: Option<Vec<String>>,
    /// `Allow` or `Deny`.
    #[serde(default)]
    pub decision: Option<String>,
}
