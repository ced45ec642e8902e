//! Waits for brokers to register with a name server.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::configuration::CLUSTER;

/// The time limit of the registration.
const WITHIN: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);
const GET_ROUTEINFO_BY_TOPIC: i32 = 105;

/// Waits until the name server knows this many brokers. Brokers report that they are up shortly before they register,
/// and Apache's proxy does not start before they have.
pub(crate) async fn wait(name_server: &str, brokers: usize) -> Result<()> {
    let registered = async {
        while known(name_server).await? < brokers {
            sleep(PAUSE).await;
        }
        Ok(())
    };
    timeout(WITHIN, registered).await.context("the brokers did not register with the name server in time")?
}

/// The number of brokers that it knows. Each registers a topic named after the cluster.
async fn known(name_server: &str) -> Result<usize> {
    let fields = json!({ "topic": CLUSTER, "acceptStandardJsonOnly": "true" });
    let header =
        json!({ "code": GET_ROUTEINFO_BY_TOPIC, "extFields": fields, "language": "RUST" }).to_string();
    let header_length = u32::try_from(header.len())?;
    let mut stream = TcpStream::connect(name_server).await?;
    let lengths = [(header_length + 4).to_be_bytes(), header_length.to_be_bytes()].concat();
    stream.write_all(&[&lengths, header.as_bytes()].concat()).await?;

    let length = stream.read_u32().await?;
    let header_length = stream.read_u32().await? & 0x00FF_FFFF;
    let mut rest = vec![0; usize::try_from(length.saturating_sub(4))?];
    stream.read_exact(&mut rest).await?;
    let body = rest.get(usize::try_from(header_length)?..).unwrap_or_default();
    if body.is_empty() {
        return Ok(0);
    }
    let route: Value = serde_json::from_slice(body)?;
    Ok(route["brokerDatas"].as_array().map_or(0, Vec::len))
}
