//! `cargo x test`: everything, in the order in which failures are cheapest to learn of.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::{
    across, bindings, conform, contract,
    examples::{self, Run},
    installed::Installed,
    interop::{self, Guest},
    language::Language,
    proxy::Proxy,
    step,
    tally::Tally,
    tidy,
    workspace::{Workspace, cargo},
};

/// The one set of packages whose unit tests are built: the generator of the Kotlin layer is a tool that runs
/// in every build, and building it a second time for no test of its own would cost a minute.
const UNIT_TESTS: &[&str] = &["test", "--workspace", "--exclude", "rocketmq-thin-kotlin-bindgen"];

/// Runs all tests in the chosen languages and closes with one line: `N passed, N failed`.
pub(crate) fn run(workspace: &Workspace, languages: &[Language], without_go: bool) -> Result<()> {
    let guests = Guest::of(languages, without_go);
    interop::require(&guests, "Or leave Apache's Go client out: --without-go")?;
    let mut tally = Tally::default();
    step::heading("Source");
    tally.add_one(report(step::perform("tidy", || tidy::run(workspace.root()))));
    let mut unit = Command::new(cargo());
    unit.current_dir(workspace.root()).args(UNIT_TESTS);
    tally.count(&step::attempt(workspace, "unit tests", &mut unit)?)?;
    if languages.contains(&Language::Kotlin) {
        tally.count(&contract::compare(workspace, UNIT_TESTS)?)?;
    }

    step::heading("Packages");
    let installed = Installed::prepare(workspace, languages)?;

    step::heading("Bindings");
    for language in languages {
        if let Some(mut tests) = bindings::tests(workspace, &installed, *language)? {
            let name = format!("tests of the {language} binding");
            tally.count(&step::attempt(workspace, &name, &mut tests)?)?;
        }
    }

    step::heading("Examples");
    let proxy = Proxy::start(workspace, installed.artefacts())?;
    tally.add(examples::run(workspace, &installed, &Run { languages, proxy: &proxy })?);
    let letters = step::perform("every language receives what every language sends", || {
        across::exchange(&mut across::speakers(workspace, &installed, languages, &proxy)?)
    });
    tally.add_one(report(letters));
    drop(proxy);

    step::heading("Conformance");
    for language in languages {
        let mut cases = conform::command(workspace, &installed, &[*language])?;
        tally.count(&step::attempt(workspace, &format!("conformance in {language}"), &mut cases)?)?;
    }

    step::heading("Interop");
    for guest in guests {
        let mut runner = interop::command(workspace, installed.artefacts(), &[guest]);
        tally.count(&step::attempt(workspace, guest.title(), &mut runner)?)?;
    }

    println!("\n{tally}");
    ensure!(tally.is_clean(), "not everything passed");
    Ok(())
}

/// A failure of our own code is reported like a program's, and the rest goes on.
fn report(result: Result<()>) -> bool {
    if let Err(error) = &result {
        println!("{error:#}");
    }
    result.is_ok()
}
