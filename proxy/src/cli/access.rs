//! `user` and `acl`: change users and policies, in a file that a running proxy reads again when it changes, or in the catalog of
//! a running proxy.

use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Subcommand};
use ipnet::IpNet;
use thiserror::Error;

use super::access_reports::{NewSecret, PolicyLine, PolicyList, UserList, Verdict};
use super::access_source::Source;
use super::commands::Connection;
use super::output::{Done, show};
use crate::error::Error as Refusal;
use crate::front::grpc::RemoteError;
use crate::layer::{
    AccessError, AccessFile, Action, Asked, Effect, NewUser, Pattern, PolicyEntry, Tables, UserKind,
    UserUpdate,
};

/// Where users and policies are.
#[derive(ClapArgs)]
pub(super) struct Place {
    /// Use the users in the catalog of the proxy at this address (access.catalog in its configuration), and no file;
    /// https://HOST:PORT uses TLS
    #[arg(long, value_name = "HOST:PORT")]
    server: Option<String>,
    #[command(flatten)]
    connection: Connection,
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
  rocketmq-thin-proxy user add billing --secret-stdin < secret.txt
  rocketmq-thin-proxy user add billing --server 127.0.0.1:8081     in the catalog of a running proxy")]
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
        place: Place,
    },
    /// List the users
    List(#[command(flatten)] Place),
    /// Give a user a new secret; clients with the old one are refused within seconds
    Secret {
        /// The user
        name: String,
        /// Read the secret from standard input instead of making one
        #[arg(long)]
        secret_stdin: bool,
        #[command(flatten)]
        place: Place,
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
        place: Place,
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
    place: Place,
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
  rocketmq-thin-proxy acl add ops 'Cluster:*' all          administration
  rocketmq-thin-proxy acl add billing Topic:orders sub --server 127.0.0.1:8081")]
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
        place: Place,
    },
    /// List policies, with their numbers
    List {
        /// Only those of this user
        #[arg(long)]
        user: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Remove the policy with this number; in a file, later ones move up
    Remove {
        /// The number, as `acl list` shows it
        number: u32,
        #[command(flatten)]
        place: Place,
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
        place: Place,
    },
}

/// Why a command failed.
#[derive(Debug, Error)]
pub(super) enum AccessCommandError {
    /// The file can't be read or written, or would make no sense.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// What the command names does not exist, exists already, or is not possible.
    #[error(transparent)]
    Wrong(#[from] Refusal),
    /// The proxy can't be reached, or refuses.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// There is no secret.
    #[error("standard input contains no secret")]
    NoSecret,
    /// The input or the output fails.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Runs `user`.
pub(super) async fn user(command: UserCommand) -> Result<(), AccessCommandError> {
    match command {
        UserCommand::Add { name, is_super, certificates, secret_stdin, place } => {
            let kind = if is_super { UserKind::Super } else { UserKind::Normal };
            let user = NewUser { name: name.clone(), secret: None, kind, enabled: true, certificates };
            let secret = place.source().await?.add_user(user, given_secret(secret_stdin)?).await?;
            Ok(show(&NewSecret { user: name, secret }, place.json)?)
        }
        UserCommand::Secret { name, secret_stdin, place } => {
            let secret = given_secret(secret_stdin)?;
            let secret = place.source().await?.set_secret(name.clone(), secret).await?;
            Ok(show(&NewSecret { user: name, secret }, place.json)?)
        }
        UserCommand::Certificates { user, names, place } => {
            let update = UserUpdate { certificates: Some(names), ..UserUpdate::default() };
            place.source().await?.update_user(user.clone(), update).await?;
            done("changed", user, &place)
        }
        UserCommand::List(place) => {
            Ok(show(&UserList::of(place.source().await?.users().await?), place.json)?)
        }
        UserCommand::Enable(user) => set_enabled(user, true).await,
        UserCommand::Disable(user) => set_enabled(user, false).await,
        UserCommand::Remove(OneUser { name, place }) => {
            place.source().await?.remove_user(name.clone()).await?;
            done("removed", name, &place)
        }
    }
}

/// Runs `acl`.
pub(super) async fn acl(command: AclCommand) -> Result<(), AccessCommandError> {
    match command {
        AclCommand::Add { user, resource, actions, from, deny, place } => {
            let effect = if deny { Effect::Deny } else { Effect::Allow };
            let policy =
                PolicyEntry { number: 0, user, resource: resource.to_string(), actions, from, effect };
            let added = place.source().await?.add_policy(policy).await?;
            Ok(show(&PolicyList(vec![PolicyLine::from(added)]), place.json)?)
        }
        AclCommand::List { user, place } => {
            let users = place.source().await?.users().await?.into_iter();
            let users = users.filter(|listed| user.as_ref().is_none_or(|user| listed.name == *user));
            let mut policies: Vec<_> = users.flat_map(|user| user.policies).collect();
            policies.sort_by_key(|policy| policy.number);
            Ok(show(&PolicyList(policies.into_iter().map(PolicyLine::from).collect()), place.json)?)
        }
        AclCommand::Remove { number, place } => {
            place.source().await?.remove_policy(number).await?;
            Ok(show(&Done { done: "removed", kind: "policy", name: number.to_string() }, place.json)?)
        }
        AclCommand::Test { user, resource, action, from, place } => {
            let asked = Asked { resource, action, from: Some(from) };
            let explained = place.source().await?.explain(&user, &asked).await?;
            Ok(show(&Verdict::from(explained), place.json)?)
        }
    }
}

impl Place {
    async fn source(&self) -> Result<Source, AccessCommandError> {
        let Some(server) = &self.server else {
            return Ok(Source::File(AccessFile::new(&self.path, self.key.as_deref())));
        };
        Ok(Source::Proxy(Box::new(self.connection.open(server).await?)))
    }
}

async fn set_enabled(OneUser { name, place }: OneUser, enabled: bool) -> Result<(), AccessCommandError> {
    let update = UserUpdate { enabled: Some(enabled), ..UserUpdate::default() };
    place.source().await?.update_user(name.clone(), update).await?;
    done(if enabled { "enabled" } else { "disabled" }, name, &place)
}

fn done(what: &'static str, name: String, place: &Place) -> Result<(), AccessCommandError> {
    Ok(show(&Done { done: what, kind: "user", name }, place.json)?)
}

/// The secret in the standard input, if it shall come from there.
fn given_secret(from_input: bool) -> Result<Option<String>, AccessCommandError> {
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

/// Makes the file with a first super user, unless it exists. Returns the secret.
pub(super) fn first_user(path: &Path, key: Option<&Path>) -> Result<Option<String>, AccessCommandError> {
    let file = AccessFile::new(path, key);
    let _lock = file.lock()?;
    if file.exists() {
        return Ok(None);
    }
    let mut tables = Tables::default();
    let secret = tables.add_user(NewUser::admin(), &file.key()?)?;
    file.write(&tables)?;
    Ok(secret)
}
