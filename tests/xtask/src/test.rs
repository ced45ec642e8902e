//! `cargo x test`: everything, in the order in which failures are cheapest to learn of.

use std::process::Command;

use anyhow::Result;

use crate::{
    across,
    artefacts::Profile,
    bindings,
    brokers::{Brokers, OLDEST},
    conform, console, contract, crash,
    examples::{self, Run},
    installed::Installed,
    interop::{self, Guest},
    language::Language,
    proxy::Proxy,
    snippets, step,
    tally::Tally,
    tidy, typed,
    workspace::{Workspace, cargo},
};

/// The unit tests, in the build of everything that runs (see [`Profile::Tested`]). This program has its own, smaller
/// build. A failure does not keep the tests of other packages from running.
pub(crate) const UNIT_TESTS: &[&str] =
    &["test", "--no-fail-fast", "--profile", "tested", "--workspace", "--exclude", "xtask"];
const OWN_UNIT_TESTS: &[&str] = &["test", "--package", "xtask"];

/// Unit tests that run at the same time. Most of the longest ones wait, so more than there are processors.
const UNIT_TEST_THREADS: &str = "10";

/// Runs all tests in the chosen languages and closes with one line: `N passed, N failed`. Whether all passed.
pub(crate) fn run(workspace: &Workspace, languages: &[Language], without_go: bool) -> Result<bool> {
    let guests = Guest::of(languages, without_go);
    interop::require(&guests, "Or leave Apache's Go client out: --without-go")?;
    let mut tally = Tally::default();
    // What can't even be built or started ends the run, and is a failure like others.
    let finished = everything(workspace, &Scope { languages, guests: &guests }, &mut tally);
    if !report(finished) {
        tally.add_one(false);
    }
    println!("\n{tally}");
    Ok(tally.is_clean())
}

/// What of the packages is tested.
struct Scope<'a> {
    languages: &'a [Language],
    guests: &'a [Guest],
}

impl Scope<'_> {
    /// Whether there are Apache's servers: they are where the tools of Apache's Java client are.
    fn has_brokers(&self) -> bool {
        self.guests.contains(&Guest::Java)
    }
}

/// The project's rules, and the unit tests.
fn source(workspace: &Workspace, languages: &[Language]) -> Result<Tally> {
    let mut tally = Tally::default();
    tally.add_one(report(step::perform("tidy", || tidy::run(workspace.root()))));
    for (name, tests) in [("unit tests of cargo x", OWN_UNIT_TESTS), ("unit tests", UNIT_TESTS)] {
        let mut unit = Command::new(cargo());
        // More steps than where the build is not optimised.
        unit.current_dir(workspace.root())
            .args(tests)
            .env("MODEL_STEPS", "100000")
            .env("RUST_TEST_THREADS", UNIT_TEST_THREADS);
        tally.count(&step::attempt(workspace, name, &mut unit)?)?;
    }
    if languages.contains(&Language::Kotlin) {
        tally.count(&contract::compare(workspace, UNIT_TESTS)?)?;
    }
    Ok(tally)
}

fn everything(workspace: &Workspace, scope: &Scope<'_>, tally: &mut Tally) -> Result<()> {
    step::heading("Source and packages");
    // Cargo builds for one at a time. Then the unit tests, many of which wait, run beside the other build.
    let (source, installed) = step::both(
        || source(workspace, scope.languages),
        || Installed::prepare(workspace, scope.languages, Profile::Tested),
    );
    tally.add(source?);
    let installed = installed?;

    // Much of what follows is waiting, so parts that share nothing run side by side.
    step::heading("Bindings");
    for outcome in step::side_by_side(scope.languages, |language| binding(workspace, &installed, *language)) {
        tally.add(outcome?);
    }

    step::heading("Examples, brokers, crashes, and the console");
    examples::compile(workspace, &installed, scope.languages)?;
    let brokers =
        scope.has_brokers().then(|| Brokers::start(workspace, installed.artefacts(), None)).transpose()?;
    let parts: [&Part<'_>; 5] = [
        &|| examples(workspace, &installed, scope),
        &|| old_brokers(workspace, &installed, scope),
        // Nothing else uses these brokers meanwhile: a broker that is busy refuses messages.
        &|| contract_of_a_backend(workspace, brokers.as_ref()),
        &|| crashes(workspace, &installed),
        &|| console_in_a_browser(workspace, &installed, scope),
    ];
    for outcome in step::side_by_side(&parts, |part| part()) {
        tally.add(outcome?);
    }

    step::heading("Behaviour");
    let mut conformance = conform::command(workspace, &installed, scope.languages)?;
    let mut interop = interop::command(workspace, installed.artefacts(), scope.guests);
    if let Some(brokers) = &brokers {
        brokers.tell(&mut conformance);
        brokers.tell(&mut interop);
    }
    tally.count(&step::attempt(workspace, "conformance", &mut conformance)?)?;
    if !scope.guests.is_empty() {
        tally.count(&step::attempt(
            workspace,
            "interop: Apache's clients and Apache's answers",
            &mut interop,
        )?)?;
    }
    Ok(())
}

/// Tests that run beside others.
type Part<'a> = dyn Fn() -> Result<Tally> + Sync + 'a;

/// The binding's own tests.
fn binding(workspace: &Workspace, installed: &Installed<'_>, language: Language) -> Result<Tally> {
    let mut tally = Tally::default();
    if let Some(mut tests) = bindings::tests(workspace, installed, language)? {
        let name = format!("tests of the {language} binding");
        tally.count(&step::attempt(workspace, &name, &mut tests)?)?;
    }
    if language == Language::Python {
        for checked in typed::check(workspace, installed)? {
            tally.count(&checked)?;
        }
    }
    Ok(tally)
}

/// The programs of the examples and the READMEs.
fn examples(workspace: &Workspace, installed: &Installed<'_>, scope: &Scope<'_>) -> Result<Tally> {
    let languages = scope.languages;
    let mut tally = Tally::default();
    let proxy = Proxy::start(workspace, installed.artefacts())?;
    tally.add(examples::run(workspace, installed, &Run { languages, proxy: &proxy })?);
    tally.add(snippets::run(workspace, installed, &Run { languages, proxy: &proxy })?);
    let letters = step::perform("every language receives what every language sends", || {
        across::exchange(&mut across::speakers(workspace, installed, languages, &proxy)?)
    });
    tally.add_one(report(letters));
    drop(proxy);
    tally.add(examples::run_with_tls(workspace, installed, languages)?);
    Ok(tally)
}

/// What runs in front of the oldest brokers.
fn old_brokers(workspace: &Workspace, installed: &Installed<'_>, scope: &Scope<'_>) -> Result<Tally> {
    let mut tally = Tally::default();
    if scope.has_brokers() && scope.languages.contains(&Language::Rust) {
        let oldest = Brokers::start(workspace, installed.artefacts(), Some(OLDEST))?;
        let mut conformance = conform::command(workspace, installed, &[Language::Rust])?;
        oldest.tell(&mut conformance);
        // Few at a time: it runs beside other parts, and brokers that are busy deliver messages again late.
        conformance.args(["--jobs", "8", "--server", "separated", "--server", "apache", "--known-failing"]);
        conformance.arg(workspace.root().join("tests/conformance/known-failing-old-brokers.txt"));
        tally.count(&step::attempt(workspace, "conformance in front of old brokers", &mut conformance)?)?;
    }
    Ok(tally)
}

/// The contract suite on real brokers, if there are any.
fn contract_of_a_backend(workspace: &Workspace, brokers: Option<&Brokers>) -> Result<Tally> {
    let mut tally = Tally::default();
    if let Some(brokers) = brokers {
        tally.count(&interop::contract(workspace, brokers)?)?;
    }
    Ok(tally)
}

/// Kills and power losses under load: a short run of `cargo x crash`.
fn crashes(workspace: &Workspace, installed: &Installed<'_>) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut command = crash::command(workspace, installed.artefacts())?;
    tally.count(&step::attempt(workspace, "crashes under load", &mut command)?)?;
    Ok(tally)
}

/// The proxy's console, for which Node drives a browser.
fn console_in_a_browser(
    workspace: &Workspace,
    installed: &Installed<'_>,
    scope: &Scope<'_>,
) -> Result<Tally> {
    let mut tally = Tally::default();
    if scope.languages.contains(&Language::Node)
        && let Some(mut tests) = console::command(workspace, installed.artefacts())?
    {
        tally.count(&step::attempt(workspace, "console in a browser", &mut tests)?)?;
    }
    Ok(tally)
}

/// A failure of our own code is reported like a program's, and the rest goes on.
fn report(result: Result<()>) -> bool {
    if let Err(error) = &result {
        println!("{error:#}");
    }
    result.is_ok()
}
