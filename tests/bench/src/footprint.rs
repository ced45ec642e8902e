//! What clients cost that do nothing: threads, connections, memory, load time, size.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::Command;

use crate::Failure;
use crate::clients::{Client, Side, median};
use crate::table::Beside;

/// Idle clients in one process.
const CLIENTS: &str = "12";
/// How long they do nothing before they are looked at.
const SETTLE: Duration = Duration::from_secs(3);
/// How often a package is loaded; the median counts.
const LOADS: usize = 5;

/// Measures what each client costs and prints a table.
pub(crate) async fn measure(clients: &[Client], address: &str) -> Result<(), Failure> {
    let table = Beside::begin("12 idle clients in one process; the package");
    for Client { language, ours, apache } in clients {
        let idle = [idle(ours, address).await, idle(apache, address).await];
        let show = |side: &Result<Idle, String>, value: fn(&Idle) -> String| match side {
            Ok(idle) => value(idle),
            Err(reason) => reason.clone(),
        };
        for (what, value) in [
            ("threads", (|it| it.threads.to_string()) as fn(&Idle) -> String),
            ("connections", |it| it.connections.to_string()),
            ("resident", |it| format!("{:.0} MB", it.resident_mib * 1.048_576)),
        ] {
            table.row(&format!("{language}: {what}"), &idle.each_ref().map(|it| show(it, value)), "");
        }
        if let [Some(ours), Some(apache)] = [&ours.import, &apache.import] {
            let (ours, apache) = (load(ours).await?, load(apache).await?);
            let figures = [ours, apache].map(|seconds| format!("{:.0} ms", seconds * 1e3));
            table.row(&format!("{language}: load, {:.2} of Apache's", ours / apache), &figures, "");
        }
        if let [Some(ours), Some(apache)] = [ours.installed, apache.installed] {
            let figures = [ours, apache]
                .map(|(bytes, packages)| format!("{:.1} MB in {packages} packages", bytes as f64 / 1e6));
            table.row(&format!("{language}: installed"), &figures, "");
        }
    }
    Ok(())
}

struct Idle {
    threads: usize,
    connections: usize,
    resident_mib: f64,
}

async fn idle(side: &Side, address: &str) -> Result<Idle, String> {
    let process = side.start(&["idle", CLIENTS, address]).await?;
    tokio::time::sleep(SETTLE).await;
    let account = process.account();
    let look = || {
        Ok::<_, std::io::Error>(Idle {
            threads: account.threads()?,
            connections: account.connections()?,
            resident_mib: account.resident_mib()?,
        })
    };
    look().map_err(|error| error.to_string())
}

/// How long a program takes that only loads a package, in seconds, with the start of its interpreter.
async fn load(program: &[String]) -> Result<f64, Failure> {
    let (program, arguments) = program.split_first().ok_or("no program")?;
    let mut seconds = Vec::new();
    for _ in 0..LOADS {
        let begin = Instant::now();
        let status = Command::new(program).args(arguments).stdin(Stdio::null()).status().await?;
        if !status.success() {
            return Err(format!("{program} could not load the package").into());
        }
        seconds.push(begin.elapsed().as_secs_f64());
    }
    Ok(median(seconds))
}
