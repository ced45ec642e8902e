//! Every case in every language on every server it names.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context, Result};
use futures::{StreamExt, stream};
use rocketmq_thin::{CLOSE_DEADLINE, Client, ClientOptions, ProducerOptions};
use tokio::sync::{Mutex, OnceCell};

use crate::{
    case::{Case, ServerKind},
    driver::{Driver, Language},
    feature,
    known::KnownFailing,
    play::{Play, Stage},
    proxy::Proxy,
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
    /// Combinations run at the same time: most of a case is waiting.
    pub jobs: usize,
    /// The `rocketmq-thin-proxy` binary.
    pub proxy: PathBuf,
    /// The real brokers, for the kinds of server that have some.
    pub cluster: Option<RealCluster>,
    /// What is known to fail.
    pub known: KnownFailing,
}

/// Apache's servers, which somebody else has started.
#[derive(Debug, Clone)]
pub struct RealCluster {
    /// Where the name server listens.
    pub name_server: String,
    /// Where Apache's proxy listens, if there is one.
    pub apache_proxy: Option<String>,
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
    /// The cases that a driver can't play, by language and by the features that it lacks.
    pub unsupported: BTreeMap<String, BTreeSet<String>>,
}

/// One case in one language on one kind of server.
#[derive(Clone, Copy)]
struct Combination<'a> {
    case: &'a Case,
    language: &'a Language,
    server: ServerKind,
}

impl Combination<'_> {
    fn name(&self) -> String {
        format!("{} · {} · {}", self.language.name, self.server.name(), self.case.name)
    }
}

impl Suite {
    /// Runs everything and calls `report` after each combination with its name and, if it failed, why.
    pub async fn run(&self, report: impl Fn(&str, Option<&str>)) -> Tally {
        let run = Run {
            suite: self,
            merged: OnceCell::new(),
            separated: OnceCell::new(),
            idle: Mutex::default(),
            counter: AtomicUsize::new(1),
        };
        let mut outcomes = stream::iter(self.combinations())
            .map(async |combination| (combination, run.combination(combination).await))
            .buffer_unordered(self.jobs.max(1));
        let mut tally = Tally::default();
        while let Some((combination, outcome)) = outcomes.next().await {
            let Combination { case, language, server } = combination;
            let name = combination.name();
            let known = self.known.contains(&case.name, &language.name, server.name());
            let failure = match outcome {
                Ok(Outcome::Unsupported(missing)) => {
                    let by = format!("{} lacks {missing}", language.name);
                    tally.unsupported.entry(by).or_default().insert(case.name.clone());
                    continue;
                }
                Ok(Outcome::Passed) if known => {
                    Some("passes, but stands in the list of what is known to fail".to_owned())
                }
                Ok(Outcome::Passed) => None,
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
        tally
    }

    /// Cases with a proxy of their own take longest: they come first.
    fn combinations(&self) -> Vec<Combination<'_>> {
        let mut all = Vec::new();
        for private in [true, false] {
            for case in self.cases.iter().filter(|case| case.private == private) {
                for server in self.servers.iter().filter(|server| server.suits(case)) {
                    all.extend(self.languages.iter().map(|language| Combination {
                        case,
                        language,
                        server: *server,
                    }));
                }
            }
        }
        all
    }
}

/// How a combination ended that did not fail.
enum Outcome {
    Passed,
    /// The driver lacks these features.
    Unsupported(String),
}

struct Run<'a> {
    suite: &'a Suite,
    merged: OnceCell<Arc<Mutex<Proxy>>>,
    separated: OnceCell<Arc<Mutex<Proxy>>>,
    /// Drivers that came clean out of a case, by language.
    idle: Mutex<HashMap<String, Vec<Driver>>>,
    counter: AtomicUsize,
}

impl Run<'_> {
    async fn combination(&self, Combination { case, language, server }: Combination<'_>) -> Result<Outcome> {
        let waiting = self.idle.lock().await.get_mut(&language.name).and_then(Vec::pop);
        let driver = match waiting {
            Some(driver) => driver,
            None => Driver::start(language)?,
        };
        let has = driver.features().await?;
        let missing: Vec<_> = feature::needed(case).into_iter().filter(|name| !has.contains(*name)).collect();
        if !missing.is_empty() {
            self.keep(language, driver).await;
            return Ok(Outcome::Unsupported(missing.join(", ")));
        }
        let stage = self.stage(case, server).await.context("starting the server")?;
        // Brokers may have seen earlier runs.
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let unique = format!("{}-{}-{number}", language.name, std::process::id());
        self.apply(case, &unique, &stage).await.context("applying topics and groups")?;
        if server == ServerKind::Apache {
            self.make_topics(case, &unique).await.context("making the topics")?;
        }
        let mut play = Play::prepare(&driver, stage.clone(), &unique).await?;
        if let Err(error) = play.perform(&case.steps).await {
            return Err(error.context(surroundings(&stage, &driver).await));
        }
        if play.clean_up().await.is_ok() {
            self.keep(language, driver).await;
        }
        Ok(Outcome::Passed)
    }

    async fn keep(&self, language: &Language, driver: Driver) {
        self.idle.lock().await.entry(language.name.clone()).or_default().push(driver);
    }

    async fn stage(&self, case: &Case, server: ServerKind) -> Result<Stage> {
        Ok(match server {
            ServerKind::Scripted => Stage::Scripted(Arc::new(ScriptedServer::start(&case.script).await?)),
            ServerKind::Merged if case.private => Stage::Proxy(self.proxy(case.proxy_args.clone()).await?),
            ServerKind::Merged => {
                Stage::Proxy(Arc::clone(self.merged.get_or_try_init(|| self.proxy(Vec::new())).await?))
            }
            ServerKind::Separated if case.private => {
                Stage::Proxy(self.proxy(self.separated_arguments(&case.proxy_args)?).await?)
            }
            ServerKind::Separated => Stage::Proxy(self.separated().await?),
            ServerKind::Apache => Stage::Apache(
                self.cluster()?.apache_proxy.clone().context("--apache-proxy says where it is")?,
            ),
        })
    }

    async fn proxy(&self, arguments: Vec<String>) -> Result<Arc<Mutex<Proxy>>> {
        Ok(Arc::new(Mutex::new(Proxy::start(&self.suite.proxy, &arguments).await?)))
    }

    async fn separated(&self) -> Result<Arc<Mutex<Proxy>>> {
        let start = async || self.proxy(self.separated_arguments(&[])?).await;
        Ok(Arc::clone(self.separated.get_or_try_init(start).await?))
    }

    fn cluster(&self) -> Result<&RealCluster> {
        self.suite.cluster.as_ref().context("--name-server says where real brokers are: see cargo x cluster")
    }

    /// In front of brokers, too, topics are made when they are named, unless the case says otherwise.
    fn separated_arguments(&self, wanted: &[String]) -> Result<Vec<String>> {
        let name_server = self.cluster()?.name_server.clone();
        let mut arguments =
            ["--name-server", &name_server, "--handle-key", "conformance"].map(str::to_owned).to_vec();
        if !wanted.iter().any(|flag| flag == "--auto-create-topics") {
            arguments.extend(["--auto-create-topics", "true"].map(str::to_owned));
        }
        arguments.extend_from_slice(wanted);
        Ok(arguments)
    }

    /// Makes the topics and groups that a case declares, at a proxy of ours in front of the same broker.
    async fn apply(&self, case: &Case, unique: &str, stage: &Stage) -> Result<()> {
        let Some(wanted) = &case.apply else { return Ok(()) };
        let proxy = match stage {
            Stage::Scripted(_) => return Ok(()),
            Stage::Proxy(proxy) => Arc::clone(proxy),
            Stage::Apache(_) => self.separated().await?,
        };
        let file = wanted.to_string().replace("${u}", unique);
        proxy.lock().await.apply(&file).await
    }

    /// Apache's proxy can't make topics: ours makes those that a case names, by being asked for them. Those of dead
    /// letters are made by brokers, with the first dead letter.
    async fn make_topics(&self, case: &Case, unique: &str) -> Result<()> {
        let topics = case.topics().into_iter().filter(|topic| !topic.starts_with('%'));
        let topics = topics.map(|topic| topic.replace("${u}", unique));
        let address = self.separated().await?.lock().await.address().to_owned();
        let client = Client::connect(ClientOptions::new(&address)).await?;
        client.producer(ProducerOptions::new(topics)).await?;
        client.close(CLOSE_DEADLINE).await;
        Ok(())
    }
}

/// What helps to understand a failure.
async fn surroundings(stage: &Stage, driver: &Driver) -> String {
    let server = match stage {
        Stage::Scripted(server) => format!("the server saw {}", server.seen().summary()),
        Stage::Proxy(proxy) => format!("the proxy's log ends with\n{}", proxy.lock().await.log_tail()),
        Stage::Apache(address) => format!("Apache's proxy at {address} keeps its log to itself"),
    };
    let errors = driver.error_output();
    let errors = if errors.is_empty() { "nothing".to_owned() } else { format!("\n{errors}") };
    format!("{server}\nthe driver's error output: {errors}\n")
}
