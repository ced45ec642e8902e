//! `cargo x quickstart`: a first look. Every language runs the same example against a new proxy, and the meaning of
//! each output line is explained once.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    across, artefacts::Profile, installed::Installed, language::Language, proxy::Proxy, step,
    workspace::Workspace,
};

/// The example that is shown.
const EXAMPLE: &str = "01-send-receive";

/// What the lines of the example mean, by prefix. Each explanation is printed once.
const MEANINGS: &[(&str, &str)] = &[
    ("sent", "The proxy answers when the message is on disk: from here on it is safe."),
    (
        "received",
        "It is ours alone for the invisible time (30 s); others in the group \"readers\" don't see it.",
    ),
    ("put back", "Not done with it: we changed its invisible time, and in 1 s the group may have it again."),
    (
        "received hello, attempt 2",
        "There it is again, and the attempt count says so. A crash has the same effect.",
    ),
    ("acknowledged", "Done: acknowledged messages never come back."),
];

/// Builds, installs, starts a proxy and shows every chosen language.
pub(crate) fn run(workspace: &Workspace, languages: &[Language]) -> Result<()> {
    step::heading("Getting ready: everything is built once, and kept in ignored folders below target");
    let installed = Installed::prepare(workspace, languages, Profile::Tested)?;
    let mut programs = Vec::new();
    for language in languages {
        programs.push((*language, installed.example(*language, EXAMPLE)?));
    }

    step::heading("A RocketMQ proxy with a broker inside; no other server is needed");
    let proxy = Proxy::start(workspace, installed.artefacts())?;
    println!("  rocketmq-thin-proxy --listen 127.0.0.1:0 --data-dir {}", proxy.data());
    println!("  It listens on {} and keeps its messages in that folder.", proxy.endpoint());
    println!("  The topic \"greetings\" and the group \"readers\" will be made when they are first used.");

    let mut told = BTreeSet::new();
    for (language, program) in &mut programs {
        step::heading(&format!("{language}  (examples/{EXAMPLE}/{})", main_file(*language)));
        show(workspace, *language, program.arg(proxy.endpoint()), &mut told)?;
    }
    step::heading("Across languages: each writes to the next");
    let mut speakers = across::speakers(workspace, &installed, languages, &proxy)?;
    across::round(&mut speakers, |sender, receiver| {
        println!(
            "  {:<6} received what {} sent: text, tag, keys and properties",
            languages[receiver].to_string(),
            languages[sender]
        );
    })?;
    let names: Vec<String> = languages.iter().map(ToString::to_string).collect();
    println!("\n{} did the same through one core and one proxy. Go on:", names.join(", "));
    println!("  examples/     the programs you just saw, side by side");
    println!("  README.md     installing each language, running the proxy");
    println!("  cargo x test  everything that is tested");
    Ok(())
}

fn main_file(language: Language) -> &'static str {
    match language {
        Language::Rust => "main.rs",
        Language::Python => "main.py",
        Language::Node => "main.mjs",
        Language::Kotlin => "Main.kt",
    }
}

/// Prints the output of a program while it runs, and explains each kind of line when it first appears.
fn show(
    workspace: &Workspace,
    language: Language,
    program: &mut Command,
    told: &mut BTreeSet<&'static str>,
) -> Result<()> {
    let log = workspace.cache("log")?.join(format!("quickstart-{}.log", language.key()));
    let mut child = program
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(&log)?)
        .spawn()
        .with_context(|| format!("starting {:?}", program.get_program()))?;
    let lines = BufReader::new(child.stdout.take().context("the program's output")?).lines();
    for line in lines {
        let line = line?;
        println!("  {line}");
        if let Some(meaning) = meaning(&line).filter(|meaning| told.insert(meaning)) {
            println!("               {meaning}");
        }
    }
    if child.wait()?.success() {
        return Ok(());
    }
    bail!("the {language} program failed:\n{}", fs::read_to_string(&log)?)
}

/// The explanation with the longest matching prefix. White space between words is ignored.
fn meaning(line: &str) -> Option<&'static str> {
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    let fits = MEANINGS.iter().filter(|(beginning, _)| line.starts_with(beginning));
    fits.max_by_key(|(beginning, _)| beginning.len()).map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_example_has_a_meaning_of_its_own() {
        let expected = include_str!("../../../examples/01-send-receive/expected.txt");
        let meanings: Option<BTreeSet<_>> = expected.lines().map(meaning).collect();
        assert_eq!(meanings.map(|meanings| meanings.len()), Some(expected.lines().count()));
    }
}
