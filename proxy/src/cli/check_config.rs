//! `--check-config`: reports everything that is wrong with the settings, without starting.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use super::logging;
use super::output::{print, print_error};
use super::serve_flags::Serve;
use crate::config::{Config, ConfigSource, Finding, Findings, SettingPath, Severity};

/// Checks the configuration file, the flags and the environment together. The exit code is 0 if the proxy can start with them,
/// and 1 if it can't.
pub(super) fn run(serve: Serve) -> ExitCode {
    let file = serve.config_file().map(Path::to_owned);
    let text = match file.as_deref().map(Config::text).transpose() {
        Ok(text) => text.unwrap_or_default(),
        Err(error) => {
            print_error(&error);
            return ExitCode::FAILURE;
        }
    };
    let (errors, text) = report(serve, file.as_deref(), &text);
    match print(&text) {
        Ok(()) if errors == 0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Returns the number of errors, and the text to print.
fn report(serve: Serve, file: Option<&Path>, text: &str) -> (usize, String) {
    let mut source = ConfigSource::read(text);
    let mut findings = std::mem::take(&mut source.mistakes);
    if let Some(in_file) = &source.config {
        let mut config = in_file.clone();
        serve.apply(&mut config);
        let mut found = config.check().0;
        found.extend(logging::check(&config.log));
        let (before, after) = (to_toml(in_file), to_toml(&config));
        for mut finding in found {
            // A value from a flag or a variable has no line in the file.
            let is_given = value_at(&before, &finding.setting) != value_at(&after, &finding.setting);
            if is_given {
                finding.problem.push_str(" (from a flag or the environment)");
            } else if source.is_uncertain(&finding.setting) {
                continue;
            } else {
                finding.line = source.line(&finding.setting);
                finding.setting = source.in_file(&finding.setting);
            }
            findings.0.push(finding);
        }
    }
    findings.0.sort_by_key(|finding| finding.line.unwrap_or(usize::MAX));
    (findings.count(Severity::Error), format_findings(&findings, file))
}

fn format_findings(findings: &Findings, file: Option<&Path>) -> String {
    let mut text = String::new();
    for Finding { severity, setting, line, problem, remedy } in &findings.0 {
        let place = match (file, line) {
            (Some(file), Some(line)) => format!("{}:{line}: ", file.display()),
            _ => String::new(),
        };
        let severity = match severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let setting = if *setting == SettingPath::default() { String::new() } else { format!("{setting}: ") };
        let _ = writeln!(text, "{place}{severity}: {setting}{}", problem.trim_end());
        let _ = writeln!(text, "    remedy: {remedy}");
    }
    let count = |number, word| if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") };
    let (errors, warnings) = (findings.count(Severity::Error), findings.count(Severity::Warning));
    let verdict =
        if errors == 0 { "the proxy can start with this" } else { "the proxy can't start with this" };
    let _ = writeln!(text, "{verdict}: {}, {}", count(errors, "error"), count(warnings, "warning"));
    text
}

/// The configuration as TOML, for lookups by path.
fn to_toml(config: &Config) -> Option<toml::Value> {
    toml::Value::try_from(config).ok()
}

fn value_at<'a>(tree: &'a Option<toml::Value>, setting: &SettingPath) -> Option<&'a toml::Value> {
    setting.steps().try_fold(tree.as_ref()?, |value, step| match value {
        toml::Value::Array(array) => array.get(step.parse::<usize>().ok()?),
        value => value.get(step),
    })
}
