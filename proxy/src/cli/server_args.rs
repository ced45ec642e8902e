//! The flags that name the proxy to administer.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use crate::front::grpc::{RemoteAdmin, RemoteError};

#[derive(ClapArgs)]
pub(super) struct NameArgs {
    /// The name
    pub(super) name: String,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

#[derive(ClapArgs)]
pub(super) struct ServerArgs {
    /// The address of the proxy; https://HOST:PORT uses TLS
    #[arg(
        long = "server",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:8081",
        env = "ROCKETMQ_THIN_PROXY_SERVER"
    )]
    pub(super) address: String,
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl ServerArgs {
    /// Connects to the proxy.
    pub(super) async fn connect(&self) -> Result<RemoteAdmin, RemoteError> {
        self.connection.open(&self.address).await
    }
}

/// Flags for the connection to a running proxy.
#[derive(ClapArgs)]
pub(super) struct ConnectionArgs {
    /// Use TLS, and trust the certificates in this PEM file instead of the system's
    #[arg(long, value_name = "FILE", env = "ROCKETMQ_THIN_PROXY_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// The user, if the proxy has access control
    #[arg(long, value_name = "NAME", requires = "secret_key", env = "ROCKETMQ_THIN_PROXY_ACCESS_KEY")]
    access_key: Option<String>,
    /// The user's secret; prefer the environment variable: other users of the machine can see command lines
    #[arg(
        long,
        value_name = "SECRET",
        requires = "access_key",
        allow_hyphen_values = true,
        env = "ROCKETMQ_THIN_PROXY_SECRET_KEY",
        hide_env_values = true
    )]
    secret_key: Option<String>,
}

impl ConnectionArgs {
    /// Connects to the proxy at an address.
    pub(super) async fn open(&self, address: &str) -> Result<RemoteAdmin, RemoteError> {
        let user = self.access_key.clone().zip(self.secret_key.clone());
        RemoteAdmin::connect(address, self.ca_file.as_deref(), user).await
    }
}
