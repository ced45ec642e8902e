//! `user` and `acl`: list and change users and policies, either in a file, which a running proxy reloads when it changes, or
//! in the catalog of a running proxy.

use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Subcommand};
use ipnet::IpNet;

use super::access_error::AccessCommandError;
use super::access_reports::{ExplanationReport, NewSecret, PolicyLine, PolicyList, UserList};
use super::access_source::AccessSource;
use super::output::{ActionReport, show};
use super::server_args::ConnectionArgs;
use crate::layer::{
    AccessFile, AccessQuery, Action, Effect, NewUser, Pattern, PolicyEntry, StoredAcl, UserKind, UserUpdate,
};

/// Flags that say where users and policies are stored.
#[derive(ClapArgs)]
pub(super) struct AccessSourceArgs {
    /// Use the catalog of the proxy at this address (access.catalog in its configuration) instead of a file;
    /// https://HOST:PORT uses TLS
    #[arg(long, value_name = "HOST:PORT")]
    server: Option<String>,
    #[command(flatten)]
    connection: ConnectionArgs,
    /// The file of users and policies: access.file in the configuration of the proxy
    #[arg(
        long = "access-file",
        value_name = "FILE",
        default_value = "access.toml",
        env = "ROCKETMQ_THIN_PROXY_ACCESS_FILE"
    )]
    path: PathBuf,
    /// The file with the key that seals the secrets [default: the access file's name with .key appended]
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
  rocketmq-thin-proxy user add accounting
  rocketmq-thin-proxy user add root --super
  rocketmq-thin-proxy user add accounting --secret-stdin < secret.txt
  rocketmq-thin-proxy user add accounting --server 127.0.0.1:8081     in the catalog of a running proxy")]
    Add {
        /// The name, which clients use as access key
        name: String,
        /// Let the user do everything, administration included
        #[arg(long = "super")]
        is_super: bool,
        /// A name in client certificates that identifies the user; may be repeated
        #[arg(long = "certificate", value_name = "NAME")]
        certificates: Vec<String>,
        /// Read the secret from standard input instead of generating one
        #[arg(long)]
        secret_stdin: bool,
        #[command(flatten)]
        source: AccessSourceArgs,
    },
    /// List the users
    List(#[command(flatten)] AccessSourceArgs),
    /// Replace the secret of a user; clients with the old one are refused within seconds
    Secret {
        /// The user
        name: String,
        /// Read the secret from standard input instead of generating one
        #[arg(long)]
        secret_stdin: bool,
        #[command(flatten)]
        source: AccessSourceArgs,
    },
    /// Set the names in client certificates that identify a user, in place of the earlier ones
    #[command(after_help = "\
A proxy requests certificates if tls.client_ca is configured. The names are DNS names, mail addresses and URIs of a
certificate, and the common name of its subject.

Examples:
  rocketmq-thin-proxy user certificates accounting accounting.example.com
  rocketmq-thin-proxy user certificates accounting              removes all names")]
    Certificates {
        /// The user
        user: String,
        /// The names
        names: Vec<String>,
        #[command(flatten)]
        source: AccessSourceArgs,
    },
    /// Enable a disabled user
    Enable(#[command(flatten)] UserArgs),
    /// Disable a user: requests are refused, and the secret and the policies are retained
    Disable(#[command(flatten)] UserArgs),
    /// Remove a user and their policies
    Remove(#[command(flatten)] UserArgs),
}

#[derive(ClapArgs)]
pub(super) struct UserArgs {
    /// The user
    name: String,
    #[command(flatten)]
    source: AccessSourceArgs,
}

#[derive(Subcommand)]
pub(super) enum AclCommand {
    /// Add a policy
    #[command(after_help = "\
The most specific policy decides: a name before a prefix (the longer one first) before Topic:* before *. If several are
equally specific, a denial decides. What no policy allows is denied.

Examples:
  rocketmq-thin-proxy acl add accounting Topic:orders sub
  rocketmq-thin-proxy acl add accounting 'Group:accounting*' sub
  rocketmq-thin-proxy acl add shop 'Topic:*' pub,sub --from 10.0.0.0/8
  rocketmq-thin-proxy acl add ops 'Cluster:*' all          administration
  rocketmq-thin-proxy acl add accounting Topic:orders sub --server 127.0.0.1:8081")]
    Add {
        /// The user
        user: String,
        /// Topic:NAME, Group:NAME or Cluster:*, where NAME may end with *; or * for everything
        resource: Pattern,
        /// The actions that the policy allows or denies
        #[arg(value_delimiter = ',', required = true)]
        actions: Vec<Action>,
        /// Only requests from these networks, such as 10.0.0.0/8
        #[arg(long, value_name = "NETWORK", value_delimiter = ',')]
        from: Vec<IpNet>,
        /// Deny instead of allowing
        #[arg(long)]
        deny: bool,
        #[command(flatten)]
        source: AccessSourceArgs,
    },
    /// List policies, with their numbers
    List {
        /// Only policies of this user
        #[arg(long)]
        user: Option<String>,
        #[command(flatten)]
        source: AccessSourceArgs,
    },
    /// Remove the policy with this number; in a file, the numbers of later policies decrease by one
    Remove {
        /// The number, as `acl list` shows it
        number: u32,
        #[command(flatten)]
        source: AccessSourceArgs,
    },
    /// Show which policy decides whether a request is allowed
    #[command(after_help = "\
Examples:
  rocketmq-thin-proxy acl test accounting Topic:orders sub
  rocketmq-thin-proxy acl test accounting Group:accounting-eu sub --from 10.1.2.3")]
    Test {
        /// The user
        user: String,
        /// Topic:NAME, Group:NAME or Cluster:*
        resource: Pattern,
        /// The action of the request
        action: Action,
        /// The client's address
        #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
        from: IpAddr,
        #[command(flatten)]
        source: AccessSourceArgs,
    },
}

/// Runs `user`.
pub(super) async fn user(command: UserCommand) -> Result<(), AccessCommandError> {
    match command {
        UserCommand::Add { name, is_super, certificates, secret_stdin, source } => {
            let kind = if is_super { UserKind::Super } else { UserKind::Normal };
            let user = NewUser { name: name.clone(), secret: None, kind, enabled: true, certificates };
            let secret = source.open().await?.add_user(user, read_secret(secret_stdin)?).await?;
            Ok(show(&NewSecret { user: name, secret }, source.json)?)
        }
        UserCommand::Secret { name, secret_stdin, source } => {
            let secret = read_secret(secret_stdin)?;
            let secret = source.open().await?.set_secret(name.clone(), secret).await?;
            Ok(show(&NewSecret { user: name, secret }, source.json)?)
        }
        UserCommand::Certificates { user, names, source } => {
            let update = UserUpdate { certificates: Some(names), ..UserUpdate::default() };
            source.open().await?.update_user(user.clone(), update).await?;
            report_done("changed", user, &source)
        }
        UserCommand::List(source) => {
            Ok(show(&UserList::of(source.open().await?.users().await?), source.json)?)
        }
        UserCommand::Enable(user) => set_enabled(user, true).await,
        UserCommand::Disable(user) => set_enabled(user, false).await,
        UserCommand::Remove(UserArgs { name, source }) => {
            source.open().await?.remove_user(name.clone()).await?;
            report_done("removed", name, &source)
        }
    }
}

/// Runs `acl`.
pub(super) async fn acl(command: AclCommand) -> Result<(), AccessCommandError> {
    match command {
        AclCommand::Add { user, resource, actions, from, deny, source } => {
            let effect = if deny { Effect::Deny } else { Effect::Allow };
            let policy =
                PolicyEntry { number: 0, user, resource: resource.to_string(), actions, from, effect };
            let added = source.open().await?.add_policy(policy).await?;
            Ok(show(&PolicyList(vec![PolicyLine::from(added)]), source.json)?)
        }
        AclCommand::List { user, source } => {
            let users = source.open().await?.users().await?.into_iter();
            let users = users.filter(|listed| user.as_ref().is_none_or(|user| listed.name == *user));
            let mut policies: Vec<_> = users.flat_map(|user| user.policies).collect();
            policies.sort_by_key(|policy| policy.number);
            Ok(show(&PolicyList(policies.into_iter().map(PolicyLine::from).collect()), source.json)?)
        }
        AclCommand::Remove { number, source } => {
            source.open().await?.remove_policy(number).await?;
            Ok(show(
                &ActionReport { done: "removed", kind: "policy", name: number.to_string() },
                source.json,
            )?)
        }
        AclCommand::Test { user, resource, action, from, source } => {
            let query = AccessQuery { resource, action, from: Some(from) };
            let explained = source.open().await?.explain(&user, &query).await?;
            Ok(show(&ExplanationReport::from(explained), source.json)?)
        }
    }
}

impl AccessSourceArgs {
    async fn open(&self) -> Result<AccessSource, AccessCommandError> {
        let Some(server) = &self.server else {
            return Ok(AccessSource::File(AccessFile::new(&self.path, self.key.as_deref())));
        };
        Ok(AccessSource::Proxy(Box::new(self.connection.open(server).await?)))
    }
}

async fn set_enabled(UserArgs { name, source }: UserArgs, enabled: bool) -> Result<(), AccessCommandError> {
    let update = UserUpdate { enabled: Some(enabled), ..UserUpdate::default() };
    source.open().await?.update_user(name.clone(), update).await?;
    report_done(if enabled { "enabled" } else { "disabled" }, name, &source)
}

fn report_done(
    what: &'static str,
    name: String,
    source: &AccessSourceArgs,
) -> Result<(), AccessCommandError> {
    Ok(show(&ActionReport { done: what, kind: "user", name }, source.json)?)
}

/// Reads the secret from standard input if `from_input` is set.
fn read_secret(from_input: bool) -> Result<Option<String>, AccessCommandError> {
    if !from_input {
        return Ok(None);
    }
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(AccessCommandError::NoSecret);
    }
    Ok(Some(text.to_owned()))
}

/// Creates the file with a first super user, unless it exists. Returns that user's secret if it was created.
pub(super) fn create_first_user(
    path: &Path,
    key: Option<&Path>,
) -> Result<Option<String>, AccessCommandError> {
    let file = AccessFile::new(path, key);
    let _lock = file.lock()?;
    if file.exists() {
        return Ok(None);
    }
    let mut acl = StoredAcl::default();
    let secret = acl.add_user(NewUser::admin(), &file.key()?)?;
    file.write(&acl)?;
    Ok(secret)
}
