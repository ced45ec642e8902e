//! Measures this build of the proxy beside an earlier one: each workload in turn, many times, so that what else the
//! machine does meets both.

use std::path::Path;

use tempfile::TempDir;
use tokio::process::Command;

use crate::Failure;
use crate::load::{Load, Names};
use crate::process::Process;
use crate::subject::{Subject, Targets, Workload};
use crate::table::{Column, Columns};

/// How often each workload is measured. Odd, so that there is a middle one.
const ROUNDS: usize = 9;

/// A server with what it stores, and the connection to it.
struct Side {
    subject: Subject,
    load: Load,
    _process: Process,
    _data: TempDir,
}

impl Side {
    async fn start(name: &'static str, proxy: &Path) -> Result<Self, Failure> {
        let data = tempfile::tempdir()?;
        let mut command = Command::new(proxy);
        command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(data.path());
        let (process, address, _) = Process::serve(command).await?;
        let subject = Subject {
            name,
            account: process.account(),
            address,
            names: Names::default(),
            warm_up: 0,
            targets: Targets::all(""),
        };
        let load = subject.connect().await?;
        Ok(Self { subject, load, _process: process, _data: data })
    }

    /// Microseconds of CPU per message.
    async fn cost(&self, workload: Workload, messages: usize) -> Result<f64, Failure> {
        Ok(self.subject.spent(messages, workload.run(&self.load, messages)).await?.micros())
    }
}

/// Starts both and prints the table.
pub(crate) async fn measure(proxy: &Path, earlier: &Path, messages: usize) -> Result<(), Failure> {
    let sides = [Side::start("earlier", earlier).await?, Side::start("now", proxy).await?];
    let mut registered = Vec::new();
    for side in &sides {
        registered.push(side.load.register().await?);
    }
    let mut columns = sides.each_ref().map(|side| Column { name: side.subject.name, figures: Vec::new() });
    let mut ratios = Column { name: "now / earlier", figures: Vec::new() };
    // What is sent first is consumed then. A few messages are left, so that no consumer waits for the last ones.
    let workloads = [(Workload::SENDS, 1.0), (Workload::CONSUMES, 0.9)]
        .into_iter()
        .flat_map(|(workloads, share)| workloads.map(|(name, workload)| (name, workload, share)));
    let mut rows = Vec::new();
    for (name, workload, share) in workloads {
        let each = (messages as f64 * share) as usize / ROUNDS;
        let mut costs = [Vec::new(), Vec::new()];
        for side in &sides {
            workload.run(&side.load, each / 2).await?;
        }
        for round in 0..ROUNDS {
            // The first of a pair is not always the same one.
            for at in [round % 2, 1 - round % 2] {
                costs[at].push(sides[at].cost(workload, each).await?);
            }
        }
        let mut quotients: Vec<f64> = costs[1].iter().zip(&costs[0]).map(|(now, then)| now / then).collect();
        for (column, costs) in columns.iter_mut().zip(&mut costs) {
            column.figures.push(format!("{:.1} us", median(costs)));
        }
        let middle = median(&mut quotients);
        ratios.figures.push(format!(
            "{middle:.3} ({:.2} to {:.2})",
            quotients.first().copied().unwrap_or_default(),
            quotients.last().copied().unwrap_or_default()
        ));
        rows.push((name, ""));
    }
    let [earlier, now] = columns;
    Columns::print(&rows, &[earlier, now, ratios]);
    Ok(())
}

/// The middle one. Sorts them.
fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}
