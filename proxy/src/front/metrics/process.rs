//! Reads the processor time and memory of this process from the operating system.

/// Processor time and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ProcessUsage {
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: u64,
    pub(super) threads: u64,
}

/// The current usage. `None` if the operating system has no `/proc`.
pub(super) fn usage() -> Option<ProcessUsage> {
    let ticks = rustix::param::clock_ticks_per_second();
    parse(&std::fs::read_to_string("/proc/self/stat").ok()?, ticks, rustix::param::page_size())
}

/// Reads `/proc/PID/stat`, see proc_pid_stat(5). The name of the program, in parentheses, may contain anything.
fn parse(stat: &str, ticks: u64, page: usize) -> Option<ProcessUsage> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // The manual counts fields from 1, and the first two are before `rest`.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(ProcessUsage {
        cpu_seconds: (field(14)? + field(15)?) as f64 / ticks as f64,
        resident_bytes: field(24)? * page as u64,
        threads: field(20)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_parsed() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 4 0 1000 9000000 300 18446744073709551615 1";
        let expected = ProcessUsage { cpu_seconds: 2.0, resident_bytes: 300 * 4096, threads: 4 };
        assert_eq!(parse(stat, 100, 4096), Some(expected));
        assert_eq!(parse("7 (a) S 1", 100, 4096), None);
    }
}
