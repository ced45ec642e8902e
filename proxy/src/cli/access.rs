//! `user` and `acl`: change the file of users and policies, which a running proxy reads again when it changes.

use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Subcommand};
use ipnet::IpNet;
use serde::Serialize;
use thiserror::Error;

use super::output::{Done, Report, Table, show};
use crate::layer::{
    AccessError, AccessFile, Action, Asked, Decision, Effect, Pattern, PolicyEntry, Secret, Tables,
    UserEntry, UserKind,
};

#[derive(ClapArgs)]
pub(super) struct Files {
    /// The file of users and policies; the same as `access.file` in the configuration of the proxy
    #[arg(
        long = "access-file",
        value_name = "FILE",
        default_value = "access.toml",
        env = "ROCKETMQ_THIN_PROXY_ACCESS_FILE"
    )]
    path: PathBuf,
    /// The file with the key of the secrets [default: the access file's name with .key]
    #[arg(long = "access-key-file", value_name = "FILE")]
    key: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
pub(super) enum UserCommand {
    /// Add a user, and print their secret, which is not shown again
    #[command(after_help = "\
Examples:
  rocketmq-thin-proxy user add billing
  rocketmq-thin-proxy user add root --super
  rocketmq-thin-proxy user add billing --secret-stdin < secret.txt")]
    Add {
        /// The name, which clients use as access key
        name: String,
        /// Let the user do everything, administration included
        #[arg(long = "super")]
        is_super: bool,
        /// A name in client certificates by which the user is known, too; may be repeated
        #[arg(long = "certificate", value_name = "NAME")]
        certificates: Vec<String>,
        /// Read the secret from standard input instead of making one
        #[arg(long)]
        secret_stdin: bool,
        #[command(flatten)]
        files: Files,
    },
    /// List the users
    List(#[command(flatten)] Files),
    /// Give a user a new secret; clients with the old one are refused within seconds
    Secret {
        /// The user
        name: String,
        /// Read the secret from standard input instead of making one
        #[arg(long)]
        secret_stdin: bool,
        #[command(flatten)]
        files: Files,
    },
    /// Set the names in client certificates by which a user is known; they replace earlier ones
    #[command(after_help = "\
A proxy asks for certificates if tls.client_ca is configured. The names are DNS names, mail addresses and URIs of a
certificate, and the common name of its subject.

Examples:
  rocketmq-thin-proxy user certificates billing billing.example.com
  rocketmq-thin-proxy user certificates billing              none any more")]
    Certificates {
        /// The user
        user: String,
        /// The names
        names: Vec<String>,
        #[command(flatten)]
        files: Files,
    },
    /// Let a disabled user in again
    Enable(#[command(flatten)] OneUser),
    /// Refuse a user without forgetting them
    Disable(#[command(flatten)] OneUser),
    /// Remove a user and their policies
    Remove(#[command(flatten)] OneUser),
}

#[derive(ClapArgs)]
pub(super) struct OneUser {
    /// The user
    name: String,
    #[command(flatten)]
    files: Files,
}

#[derive(Subcommand)]
pub(super) enum AclCommand {
    /// Add a policy
    #[command(after_help = "\
The most specific policy decides: a name before a prefix (the longer one first) before Topic:* before *. If several are
equally specific, a denial decides. What no policy allows is denied.

Examples:
  rocketmq-thin-proxy acl add billing Topic:orders sub
  rocketmq-thin-proxy acl add billing 'Group:billing*' sub
  rocketmq-thin-proxy acl add shop 'Topic:*' pub,sub --from 10.0.0.0/8
  rocketmq-thin-proxy acl add ops 'Cluster:*' all          administration")]
    Add {
        /// The user
        user: String,
        /// Topic:NAME, Group:NAME or Cluster:*, where NAME may end with *; or * for everything
        resource: Pattern,
        /// What it is about
        #[arg(value_delimiter = ',', required = true)]
        actions: Vec<Action>,
        /// Only requests from these networks, such as 10.0.0.0/8
        #[arg(long, value_name = "NETWORK", value_delimiter = ',')]
        from: Vec<IpNet>,
        /// Deny instead of allowing
        #[arg(long)]
        deny: bool,
        #[command(flatten)]
        files: Files,
    },
    /// List policies, with their numbers
    List {
        /// Only those of this user
        #[arg(long)]
        user: Option<String>,
        #[command(flatten)]
        files: Files,
    },
    /// Remove the policy with this number; later ones move up
    Remove {
        /// The number, as `acl list` shows it
        number: usize,
        #[command(flatten)]
        files: Files,
    },
    /// Say which policy decides about a request
    #[command(after_help = "\
Examples:
  rocketmq-thin-proxy acl test billing Topic:orders sub
  rocketmq-thin-proxy acl test billing Group:billing-eu sub --from 10.1.2.3")]
    Test {
        /// The user
        user: String,
        /// Topic:NAME, Group:NAME or Cluster:*
        resource: Pattern,
        /// What the request does
        action: Action,
        /// The address that it comes from
        #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
        from: IpAddr,
        #[command(flatten)]
        files: Files,
    },
}

/// Why a command failed.
#[derive(Debug, Error)]
pub(super) enum AccessCommandError {
    /// The file can't be read or written, or would make no sense.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// What the command names does not exist, or exists already.
    #[error("{0}")]
    Wrong(String),
    /// The input or the output fails.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Runs `user`.
pub(super) fn user(command: UserCommand) -> Result<(), AccessCommandError> {
    match command {
        UserCommand::Add { name, is_super, certificates, secret_stdin, files } => {
            let kind = if is_super { UserKind::Super } else { UserKind::Normal };
            let (secret, told) = secret(secret_stdin)?;
            files.change(|file, tables| {
                if tables.users.iter().any(|user| user.name == name) {
                    return Err(AccessCommandError::Wrong(format!(
                        "user {name} exists; `user secret {name}` makes a new secret"
                    )));
                }
                let secret = file.key()?.seal(&name, &secret);
                let name = name.clone();
                tables.users.push(UserEntry { name, secret, kind, enabled: true, certificates });
                Ok(())
            })?;
            Ok(show(&NewSecret { user: name, secret: told }, files.json)?)
        }
        UserCommand::Secret { name, secret_stdin, files } => {
            let (secret, told) = secret(secret_stdin)?;
            files.change(|file, tables| {
                find(tables, &name)?.secret = file.key()?.seal(&name, &secret);
                Ok(())
            })?;
            Ok(show(&NewSecret { user: name, secret: told }, files.json)?)
        }
        UserCommand::Certificates { user, names, files } => {
            files.change(|_, tables| {
                find(tables, &user)?.certificates = names;
                Ok(())
            })?;
            done("changed", user, &files)
        }
        UserCommand::List(files) => Ok(show(&UserList::of(&files.file().read()?), files.json)?),
        UserCommand::Enable(user) => set_enabled(user, true),
        UserCommand::Disable(user) => set_enabled(user, false),
        UserCommand::Remove(OneUser { name, files }) => {
            files.change(|_, tables| {
                find(tables, &name)?;
                tables.users.retain(|user| user.name != name);
                tables.policies.retain(|policy| policy.user != name);
                Ok(())
            })?;
            done("removed", name, &files)
        }
    }
}

/// Runs `acl`.
pub(super) fn acl(command: AclCommand) -> Result<(), AccessCommandError> {
    match command {
        AclCommand::Add { user, resource, actions, from, deny, files } => {
            let effect = if deny { Effect::Deny } else { Effect::Allow };
            let policy = PolicyEntry { user, resource: resource.to_string(), actions, from, effect };
            let added = files.change(|_, tables| {
                find(tables, &policy.user)?;
                let added = PolicyLine::of(tables.policies.len(), &policy);
                tables.policies.push(policy);
                Ok(added)
            })?;
            Ok(show(&PolicyList(vec![added]), files.json)?)
        }
        AclCommand::List { user, files } => {
            let tables = files.file().read()?;
            let policies = tables.policies.iter().enumerate();
            let policies =
                policies.filter(|(_, policy)| user.as_ref().is_none_or(|user| policy.user == *user));
            Ok(show(
                &PolicyList(policies.map(|(index, policy)| PolicyLine::of(index, policy)).collect()),
                files.json,
            )?)
        }
        AclCommand::Remove { number, files } => {
            files.change(|_, tables| {
                let index = number.checked_sub(1).filter(|index| *index < tables.policies.len());
                let missing = || AccessCommandError::Wrong(format!("there is no policy {number}"));
                tables.policies.remove(index.ok_or_else(missing)?);
                Ok(())
            })?;
            Ok(show(&Done { done: "removed", kind: "policy", name: number.to_string() }, files.json)?)
        }
        AclCommand::Test { user, resource, action, from, files } => {
            let file = files.file();
            let tables = file.read()?;
            let asked = Asked { resource, action, from: Some(from) };
            let decision = file.rules(&tables)?.explain(&user, &asked);
            let verdict = match decision {
                Err(error) => Verdict::new(false, error.message),
                Ok(None) => Verdict::new(true, format!("{user} is a super user")),
                Ok(Some(Decision::None)) => Verdict::new(false, "no policy applies".to_owned()),
                Ok(Some(Decision::Policy(effect, index))) => {
                    let policy = tables.policies.get(index).map(|policy| PolicyLine::of(index, policy));
                    Verdict {
                        policy,
                        ..Verdict::new(effect == Effect::Allow, "this policy decides".to_owned())
                    }
                }
            };
            Ok(show(&verdict, files.json)?)
        }
    }
}

impl Files {
    fn file(&self) -> AccessFile {
        AccessFile::new(&self.path, self.key.as_deref())
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&AccessFile, &mut Tables) -> Result<T, AccessCommandError>,
    ) -> Result<T, AccessCommandError> {
        let file = self.file();
        let _lock = file.lock()?;
        let mut tables = if file.exists() { file.read()? } else { Tables::default() };
        let changed = change(&file, &mut tables)?;
        file.write(&tables)?;
        Ok(changed)
    }
}

fn find<'a>(tables: &'a mut Tables, name: &str) -> Result<&'a mut UserEntry, AccessCommandError> {
    let found = tables.users.iter_mut().find(|user| user.name == name);
    found.ok_or_else(|| {
        AccessCommandError::Wrong(format!("user {name} does not exist; `user list` shows who does"))
    })
}

fn set_enabled(OneUser { name, files }: OneUser, enabled: bool) -> Result<(), AccessCommandError> {
    files.change(|_, tables| {
        find(tables, &name)?.enabled = enabled;
        Ok(())
    })?;
    done(if enabled { "enabled" } else { "disabled" }, name, &files)
}

fn done(what: &'static str, name: String, files: &Files) -> Result<(), AccessCommandError> {
    Ok(show(&Done { done: what, kind: "user", name }, files.json)?)
}

/// A new secret, and what to tell of it. A secret that was given is not repeated.
fn secret(from_input: bool) -> Result<(Secret, Option<String>), AccessCommandError> {
    if !from_input {
        let (secret, text) = Secret::random();
        return Ok((secret, Some(text)));
    }
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(AccessCommandError::Wrong("standard input contains no secret".to_owned()));
    }
    Ok((Secret::new(text), None))
}

/// Makes the file with a first super user, unless it exists. Returns the secret.
pub(super) fn first_user(path: &Path, key: Option<&Path>) -> Result<Option<String>, AccessError> {
    const ADMIN: &str = "admin";
    let file = AccessFile::new(path, key);
    let _lock = file.lock()?;
    if file.exists() {
        return Ok(None);
    }
    let (secret, text) = Secret::random();
    let secret = file.key()?.seal(ADMIN, &secret);
    let admin = UserEntry {
        name: ADMIN.to_owned(),
        secret,
        kind: UserKind::Super,
        enabled: true,
        certificates: Vec::new(),
    };
    file.write(&Tables { users: vec![admin], policies: Vec::new() })?;
    Ok(Some(text))
}

#[derive(Serialize)]
struct NewSecret {
    user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl Report for NewSecret {
    fn text(&self) -> String {
        match &self.secret {
            Some(secret) => {
                format!("access key: {}\nsecret key: {secret}\nThe secret is not shown again.", self.user)
            }
            None => format!("access key: {}", self.user),
        }
    }
}

#[derive(Serialize)]
struct UserLine {
    name: String,
    #[serde(rename = "type")]
    kind: UserKind,
    enabled: bool,
    policies: usize,
    certificates: Vec<String>,
}

#[derive(Serialize)]
struct UserList(Vec<UserLine>);

impl UserList {
    fn of(tables: &Tables) -> Self {
        let policies = |name: &str| tables.policies.iter().filter(|policy| policy.user == *name).count();
        let line = |user: &UserEntry| UserLine {
            name: user.name.clone(),
            kind: user.kind,
            enabled: user.enabled,
            policies: policies(&user.name),
            certificates: user.certificates.clone(),
        };
        Self(tables.users.iter().map(line).collect())
    }
}

impl Report for UserList {
    fn text(&self) -> String {
        let mut table = Table::new(["NAME", "TYPE", "STATE", "POLICIES", "CERTIFICATES"]);
        for UserLine { name, kind, enabled, policies, certificates } in &self.0 {
            let kind = if *kind == UserKind::Super { "super" } else { "normal" };
            let state = if *enabled { "enabled" } else { "disabled" };
            let certificates = certificates.join(",");
            table.row([name.clone(), kind.to_owned(), state.to_owned(), policies.to_string(), certificates]);
        }
        table.text()
    }
}

#[derive(Serialize)]
struct PolicyLine {
    number: usize,
    #[serde(flatten)]
    policy: PolicyEntry,
}

impl PolicyLine {
    fn of(index: usize, policy: &PolicyEntry) -> Self {
        Self { number: index + 1, policy: policy.clone() }
    }

    fn cells(&self) -> [String; 6] {
        let PolicyEntry { user, resource, actions, from, effect } = &self.policy;
        let actions: Vec<_> = actions.iter().map(|action| format!("{action:?}").to_lowercase()).collect();
        let from: Vec<_> = from.iter().map(IpNet::to_string).collect();
        let from = if from.is_empty() { "everywhere".to_owned() } else { from.join(",") };
        let effect = if *effect == Effect::Deny { "deny" } else { "allow" };
        [self.number.to_string(), user.clone(), resource.clone(), actions.join(","), from, effect.to_owned()]
    }
}

#[derive(Serialize)]
struct PolicyList(Vec<PolicyLine>);

impl Report for PolicyList {
    fn text(&self) -> String {
        let mut table = Table::new(["NUMBER", "USER", "RESOURCE", "ACTIONS", "FROM", "EFFECT"]);
        self.0.iter().for_each(|line| table.row(line.cells()));
        table.text()
    }
}

#[derive(Serialize)]
struct Verdict {
    allowed: bool,
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<PolicyLine>,
}

impl Verdict {
    fn new(allowed: bool, why: String) -> Self {
        Self { allowed, why, policy: None }
    }
}

impl Report for Verdict {
    fn text(&self) -> String {
        let verdict = if self.allowed { "allowed" } else { "denied" };
        match &self.policy {
            Some(policy) => format!("{verdict}: {}\n  {}", self.why, policy.cells().join("  ")),
            None => format!("{verdict}: {}", self.why),
        }
    }
}
