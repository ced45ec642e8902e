//! `--check-config`: whether a start would succeed, as far as that can be told without one.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use super::args::Serve;
use super::logging;
use super::{complain, print};
use crate::config::{Config, Finding, Findings, Setting, Severity, Source};

/// Checks the settings that a start with these flags would have. The exit code is 0 if it can start, and 1 if not.
pub(super) fn run(serve: Serve) -> ExitCode {
    let file = serve.config_file().map(Path::to_owned);
    let text = match file.as_deref().map(Config::text).transpose() {
        Ok(text) => text.unwrap_or_default(),
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    let (errors, text) = report(serve, file.as_deref(), &text);
    match print(&text) {
        Ok(()) if errors == 0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// The number of errors, and what is printed.
fn report(serve: Serve, file: Option<&Path>, text: &str) -> (usize, String) {
    let mut source = Source::read(text);
    let mut findings = std::mem::take(&mut source.mistakes);
    if let Some(in_file) = &source.config {
        let mut config = in_file.clone();
        serve.apply(&mut config);
        let mut found = config.check().0;
        found.extend(logging::check(&config.log));
        let (before, after) = (tree(in_file), tree(&config));
        for mut finding in found {
            // A value that a flag or a variable has set is in no line.
            let is_given = value(&before, &finding.setting) != value(&after, &finding.setting);
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
    (findings.count(Severity::Error), written(&findings, file))
}

fn written(findings: &Findings, file: Option<&Path>) -> String {
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
        let setting = if *setting == Setting::default() { String::new() } else { format!("{setting}: ") };
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

fn tree(config: &Config) -> Option<toml::Value> {
    toml::Value::try_from(config).ok()
}

fn value<'a>(tree: &'a Option<toml::Value>, setting: &Setting) -> Option<&'a toml::Value> {
    setting.steps().try_fold(tree.as_ref()?, |value, step| match value {
        toml::Value::Array(array) => array.get(step.parse::<usize>().ok()?),
        value => value.get(step),
    })
}
