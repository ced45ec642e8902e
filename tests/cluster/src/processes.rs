//! The processes of a cluster, found by their working folder. A stored list of process ids could be lost.

use std::fmt;
use std::path::Path;

use anyhow::{Result, ensure};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

/// Running processes.
pub(crate) struct Processes {
    system: System,
    ids: Vec<Pid>,
}

impl Processes {
    /// The processes that were started in a folder below `data`.
    pub(crate) fn of(data: &Path) -> Self {
        let mut system = System::new();
        let command_lines = ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always).without_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::All, true, command_lines);
        let home = format!("-Duser.home={}/", data.display());
        let started_there = |argument: &std::ffi::OsString| argument.to_string_lossy().starts_with(&home);
        let here = system.processes().iter().filter(|(_, process)| process.cmd().iter().any(started_there));
        let mut ids: Vec<_> = here.map(|(id, _)| *id).collect();
        ids.sort();
        Self { system, ids }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Kills them as `kill -9` does.
    pub(crate) fn end(&self) -> Result<()> {
        for process in self.ids.iter().filter_map(|id| self.system.process(*id)) {
            ensure!(process.kill(), "process {} cannot be killed", process.pid());
        }
        Ok(())
    }
}

impl fmt::Display for Processes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.ids.iter().map(Pid::to_string).collect();
        f.write_str(&ids.join(" "))
    }
}
