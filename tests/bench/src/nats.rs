//! A NATS server that syncs every message to the disk, and the program that loads it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::process::Command;

use crate::Failure;
use crate::process::Process;

/// The time limit of its start.
const START: Duration = Duration::from_secs(30);

/// A running NATS server.
pub(crate) struct Nats {
    process: Process,
    client: PathBuf,
    url: String,
}

impl Nats {
    /// Starts the server with its data in this folder.
    pub(crate) async fn start(server: &Path, client: &Path, folder: &Path) -> Result<Self, Failure> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let configuration = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{}\", sync_interval: always }}\n",
            folder.display()
        );
        let file = folder.join("nats.conf");
        std::fs::write(&file, configuration)?;
        let mut command = Command::new(server);
        command.arg("--config").arg(file).arg("--log").arg(folder.join("nats.log"));
        let process = Process::start(command)?;
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if begin.elapsed() > START {
                return Err("the NATS server does not listen".into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Self { process, client: client.to_owned(), url: format!("nats://127.0.0.1:{port}") })
    }

    /// The server's process.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Runs a workload of the client. Returns the 50th and 99th percentile of its times.
    pub(crate) async fn run(&self, workload: &str, numbers: [usize; 2]) -> Result<[Duration; 2], Failure> {
        let mut command = Command::new(&self.client);
        command.args([&self.url, workload]).args(numbers.map(|number| number.to_string()));
        let output = command.output().await?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        let text = String::from_utf8(output.stdout)?;
        let (median, high) = text.trim().split_once(' ').ok_or("the NATS client printed no times")?;
        Ok([Duration::from_micros(median.parse()?), Duration::from_micros(high.parse()?)])
    }
}
