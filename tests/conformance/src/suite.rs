//! Every case in every language on every server it names.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context, Result};
use futures::{StreamExt, stream};
use tokio::sync::{Mutex, OnceCell};

use crate::{
    case::{Case, ServerKind},
    driver::{Driver, Language},
    known::KnownFailing,
    play::{Play, Stage},
    proxy::MergedProxy,
    server::ScriptedServer,
};

/// What is run, and with what.
#[derive(Debug)]
pub struct Suite {
    /// The chosen cases.
    pub cases: Vec<Case>,
    /// The chosen kinds of server.
    pub servers: Vec<ServerKind>,
    /// The chosen languages.
    pub languages: Vec<Language>,
    /// Languages run at the same time.
    pub jobs: usize,
    /// The `rocketmq-thin-proxy` binary.
    pub proxy: PathBuf,
    /// What is known to fail.
    pub known: KnownFailing,
}

/// How a suite ended.
#[derive(Debug, Default)]
pub struct Tally {
    /// Combinations that went as expected.
    pub passed: usize,
    /// One text per combination that did not.
    pub failures: Vec<String>,
    /// Combinations that failed and are known to.
    pub known: Vec<String>,
}

impl Suite {
    /// Runs everything and calls `report` after each combination with its name and, if it failed, why.
    pub async fn run(&self, report: impl Fn(&str, Option<&str>) + Sync) -> Tally {
        let run = Run { suite: self, shared: OnceCell::new(), counter: AtomicUsize::new(1) };
        let tallies: Vec<Tally> = stream::iter(&self.languages)
            .map(|language| run.language(language, &report))
            .buffer_unordered(self.jobs.max(1))
            .collect()
            .await;
        tallies.into_iter().fold(Tally::default(), |mut total, tally| {
            total.passed += tally.passed;
            total.failures.extend(tally.failures);
            total.known.extend(tally.known);
            total
        })
    }
}

struct Run<'a> {
    suite: &'a Suite,
    shared: OnceCell<Arc<Mutex<MergedProxy>>>,
    counter: AtomicUsize,
}

impl Run<'_> {
    async fn language(&self, language: &Language, report: &(impl Fn(&str, Option<&str>) + Sync)) -> Tally {
        let mut tally = Tally::default();
        let mut driver = None;
        for case in &self.suite.cases {
            for server in &self.suite.servers {
                if !case.servers.contains(server) {
                    continue;
                }
                let name = format!("{} · {} · {}", language.name, server.name(), case.name);
                let outcome = self.combination((language, &mut driver), case, *server).await;
                let known = self.suite.known.contains(&case.name, &language.name, server.name());
                let failure = match outcome {
                    Ok(()) if known => {
                        Some("passes, but stands in the list of what is known to fail".to_owned())
                    }
                    Ok(()) => None,
                    Err(_) if known => {
                        tally.known.push(name);
                        continue;
                    }
                    Err(error) => Some(format!("{error:#}")),
                };
                report(&name, failure.as_deref());
                match failure {
                    None => tally.passed += 1,
                    Some(why) => tally.failures.push(format!("{name}: {}\n{why}", case.shows)),
                }
            }
        }
        tally
    }

    async fn combination(
        &self,
        (language, driver): (&Language, &mut Option<Driver>),
        case: &Case,
        server: ServerKind,
    ) -> Result<()> {
        let running = match driver.take() {
            Some(driver) => driver,
            None => Driver::start(language)?,
        };
        let stage = self.stage(case, server).await.context("starting the server")?;
        let unique = format!("{}-{}", language.name, self.counter.fetch_add(1, Ordering::Relaxed));
        let mut play = Play::prepare(&running, stage.clone(), &unique).await?;
        match play.perform(&case.steps).await {
            Ok(()) => {
                // A driver goes on to the next case only if it came clean out of this one.
                if play.clean_up().await.is_ok() {
                    *driver = Some(running);
                }
                Ok(())
            }
            Err(error) => Err(error.context(surroundings(&stage, &running).await)),
        }
    }

    async fn stage(&self, case: &Case, server: ServerKind) -> Result<Stage> {
        Ok(match server {
            ServerKind::Scripted => Stage::Scripted(Arc::new(ScriptedServer::start(&case.script).await?)),
            ServerKind::Merged if case.private => Stage::Merged(self.proxy(&case.proxy_args).await?),
            ServerKind::Merged => {
                Stage::Merged(Arc::clone(self.shared.get_or_try_init(|| self.proxy(&[])).await?))
            }
        })
    }

    async fn proxy(&self, arguments: &[String]) -> Result<Arc<Mutex<MergedProxy>>> {
        Ok(Arc::new(Mutex::new(MergedProxy::start(&self.suite.proxy, arguments).await?)))
    }
}

/// What helps to understand a failure.
async fn surroundings(stage: &Stage, driver: &Driver) -> String {
    let server = match stage {
        Stage::Scripted(server) => format!("the server saw {}", server.seen().summary()),
        Stage::Merged(proxy) => format!("the proxy's log ends with\n{}", proxy.lock().await.log_tail()),
    };
    let errors = driver.error_output();
    let errors = if errors.is_empty() { "nothing".to_owned() } else { format!("\n{errors}") };
    format!("{server}\nthe driver's error output: {errors}\n")
}
