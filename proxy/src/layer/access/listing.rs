use super::file::{AccessError, AccessFile, PolicyEntry, UserKind};

/// A user with their policies, and without the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedUser {
    /// The name, which is also the access key.
    pub name: String,
    /// Whether the user needs policies.
    pub kind: UserKind,
    /// Whether the user may do anything at all.
    pub enabled: bool,
    /// Names in client certificates.
    pub certificates: Vec<String>,
    /// The user's policies, in the order of the file.
    pub policies: Vec<PolicyEntry>,
}

/// The users that are in the file now.
pub(super) fn users(file: &AccessFile) -> Result<Vec<ListedUser>, AccessError> {
    let tables = file.read()?;
    let users = tables.users.into_iter().map(|user| {
        let policies = tables.policies.iter().filter(|policy| policy.user == user.name).cloned().collect();
        let (kind, enabled, certificates) = (user.kind, user.enabled, user.certificates);
        ListedUser { name: user.name, kind, enabled, certificates, policies }
    });
    Ok(users.collect())
}
