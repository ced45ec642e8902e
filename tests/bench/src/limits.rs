//! Measures quotas: how many messages of a client beyond its limit are accepted, and what it costs another client, in one
//! proxy, and in a fleet of three in front of Apache's broker.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use cluster::{Cluster, Options};
use futures::future::try_join_all;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::runtime;
use tokio::task::spawn_blocking;

use crate::Failure;
use crate::load::{Load, Names, Sent, TOPIC};
use crate::process::Process;
use crate::separated::create_names;
use crate::table::Table;

/// The limit of a client, and what the noisy client sends, in messages per second.
const LIMIT: u32 = 300;
const NOISY: u32 = 10 * LIMIT;
/// What the quiet client sends: less than its limit, also at each proxy of the fleet.
const QUIET: u32 = 200;
/// The time in which accepted messages are counted.
const WINDOW: Duration = Duration::from_secs(10);
/// How long the quiet client is measured at a time without the noisy one.
const WITHOUT: Duration = Duration::from_secs(5);
/// The time in which the noisy client uses up its burst.
const BURST: Duration = Duration::from_secs(2);
/// The time limit for the proxies of a fleet to count each other.
const LEARNING: Duration = Duration::from_secs(60);
/// A topic with a limit for all its clients together.
const SHARED_TOPIC: &str = "bench-shared";
const FLEET: u32 = 3;

/// What a client sends, to several proxies in turn.
#[derive(Clone)]
struct Offer {
    client: &'static str,
    addresses: Vec<String>,
    topic: &'static str,
    rate: u32,
    lasting: Duration,
}

/// The measured proxies.
struct Subject<'a> {
    table: &'a Table,
    name: &'static str,
    addresses: Vec<String>,
}

/// A proxy of the fleet.
struct Member {
    address: String,
    metrics: String,
    _process: Process,
    _folder: TempDir,
}

/// Measures a proxy, and a fleet if there is a folder for the list of Apache's jars.
pub(crate) async fn measure(proxy: &Path, cache: Option<&Path>) -> Result<(), Failure> {
    let table = Table::titled(&format!("{NOISY} messages/s sent, {LIMIT} allowed"));
    merged(&table, proxy).await?;
    match cache {
        Some(cache) => fleet(&table, proxy, cache).await?,
        None => table.row("fleet of three", "left out: no Apache broker".to_owned(), ""),
    }
    Ok(())
}

async fn merged(table: &Table, proxy: &Path) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("proxy.toml");
    let quotas = [quota("each", "client", TOPIC), quota("shared", "topic", SHARED_TOPIC)];
    std::fs::write(&config, quotas.concat())?;
    let mut command = Command::new(proxy);
    command.args(["--listen", "127.0.0.1:0", "--config"]).arg(config);
    command.arg("--data-dir").arg(folder.path().join("data"));
    let (_process, address, _) = Process::serve(command).await?;
    let subject = Subject { table, name: "one proxy", addresses: vec![address] };
    subject.compare().await?;
    subject.share().await
}

async fn fleet(table: &Table, proxy: &Path, cache: &Path) -> Result<(), Failure> {
    let cluster = Cluster::start(&Options::new(cache)).await?;
    create_names(proxy, &cluster, &Names::default()).await?;
    let mut members = Vec::new();
    for _ in 1..FLEET {
        members.push(Member::start(proxy, &cluster).await?);
    }
    learned(&members).await?;
    let mut subject = Subject { table, name: "fleet of three", addresses: addresses(&members) };

    subject.noisy(NOISY, BURST).run_apart().await?;
    members.push(Member::start(proxy, &cluster).await?);
    let part = NOISY / FLEET;
    let newest = Offer { addresses: addresses(&members[2..]), ..subject.noisy(part, WINDOW) };
    let (older, newest) =
        tokio::try_join!(subject.noisy(NOISY - part, WINDOW).run_apart(), newest.run_apart())?;
    let sent: Vec<_> = older.into_iter().chain(newest).collect();
    subject.limit("while the third one joins", &sent, "33 %");

    subject.addresses = addresses(&members);
    learned(&members).await?;
    subject.compare().await?;

    subject.noisy(NOISY, BURST).run_apart().await?;
    members.pop();
    subject.addresses = addresses(&members);
    let sent = subject.noisy(NOISY, WINDOW).run_apart().await?;
    subject.limit("after one was killed", &sent, "33 %");
    Ok(())
}

impl Subject<'_> {
    /// Measures the quiet client alone, beside a client at its limit, and beside the noisy one, each twice in turn.
    async fn compare(&self) -> Result<(), Failure> {
        self.quiet(BURST).run().await?;
        let (mut alone, mut at_limit, mut beside) = (Vec::new(), Vec::new(), Vec::new());
        let mut refused = 0;
        for (when, is_rested) in [("from rest", true), ("later", false)] {
            alone.extend(self.quiet(WITHOUT).run().await?);
            let other = self.noisy(LIMIT, WITHOUT).run_apart();
            at_limit.extend(tokio::try_join!(self.quiet(WITHOUT).run(), other)?.0);
            if !is_rested {
                self.noisy(NOISY, BURST).run_apart().await?;
            }
            let other = self.noisy(NOISY, WINDOW).run_apart();
            let (quiet, noisy) = tokio::try_join!(self.quiet(WINDOW).run(), other)?;
            self.limit(when, &noisy, "5 %");
            refused += quiet.iter().filter(|sent| !sent.accepted).count();
            beside.extend(quiet);
        }
        let reference = latency(&mut alone).1;
        for (which, sent, target) in [
            ("quiet client alone", &mut alone, ""),
            ("beside another at its limit", &mut at_limit, ""),
            ("beside the noisy one", &mut beside, "p99 + 20 %"),
        ] {
            let (p50, p99) = latency(sent);
            let change = (p99 / reference - 1.0) * 100.0;
            self.row(which, format!("{p50:.2} / {p99:.2} ms ({change:+.0} %)"), target);
        }
        self.row("refused of the quiet client", refused.to_string(), "0");
        Ok(())
    }

    /// Measures what a quiet client gets of a limit that it shares with the noisy one.
    async fn share(&self) -> Result<(), Failure> {
        let of_topic = |offer: Offer| Offer { topic: SHARED_TOPIC, ..offer };
        let quiet = of_topic(Offer { rate: LIMIT / 4, ..self.quiet(WINDOW) });
        let noisy = of_topic(self.noisy(NOISY, WINDOW)).run_apart();
        let (quiet, noisy) = tokio::try_join!(quiet.run(), noisy)?;
        let refused = quiet.iter().filter(|sent| !sent.accepted).count();
        self.row("one limit for both: refused of the quiet client", refused.to_string(), "0");
        let both: Vec<_> = quiet.into_iter().chain(noisy).collect();
        self.limit("by both together", &both, "5 %");
        Ok(())
    }

    fn quiet(&self, lasting: Duration) -> Offer {
        Offer { client: "quiet", rate: QUIET, ..self.noisy(0, lasting) }
    }

    fn noisy(&self, rate: u32, lasting: Duration) -> Offer {
        Offer { client: "noisy", addresses: self.addresses.clone(), topic: TOPIC, rate, lasting }
    }

    /// Prints how many messages were accepted in [`WINDOW`], compared with the limit.
    fn limit(&self, when: &str, sent: &[Sent], target: &str) {
        let is_counted = |sent: &&Sent| sent.accepted && sent.answered <= WINDOW;
        let accepted = sent.iter().filter(is_counted).count() as f64;
        let allowed = f64::from(LIMIT) * WINDOW.as_secs_f64();
        let change = (accepted / allowed - 1.0) * 100.0;
        self.row(&format!("accepted in 10 s {when}"), format!("{accepted} ({change:+.1} %)"), target);
    }

    fn row(&self, what: &str, figure: String, target: &str) {
        self.table.row(&format!("{}: {what}", self.name), figure, target);
    }
}

impl Offer {
    async fn run(self) -> Result<Vec<Sent>, Failure> {
        let Self { client, addresses, topic, rate, lasting } = &self;
        let names = Names { topic: (*topic).to_owned(), ..Names::default() };
        let loads = try_join_all(addresses.iter().map(|address| Load::connect(address, &names))).await?;
        let loads: Vec<_> = loads.into_iter().map(|load| load.with_client_id(client)).collect();
        Load::offer(&loads, *rate, *lasting).await
    }

    /// Runs on a thread of its own, so that it does not delay the sends of the other client.
    async fn run_apart(self) -> Result<Vec<Sent>, Failure> {
        spawn_blocking(|| runtime::Builder::new_current_thread().enable_all().build()?.block_on(self.run()))
            .await?
    }
}

impl Member {
    async fn start(proxy: &Path, cluster: &Cluster) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("proxy.toml");
        let settings = "handle_key = 'bench'\nlearn_fleet_size = true\n".to_owned();
        std::fs::write(&config, settings + &quota("each", "client", TOPIC))?;
        // Free at the moment. The proxy does not say which port it has chosen.
        let metrics = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let mut command = Command::new(proxy);
        command.args(["--listen", "127.0.0.1:0", "--metrics-listen", &metrics]);
        command.args(["--name-server", cluster.name_server(), "--config"]).arg(config);
        let (process, address, _) = Process::serve(command).await?;
        Ok(Self { address, metrics, _process: process, _folder: folder })
    }

    /// The number of proxies that share the quotas, as this one knows it.
    async fn fleet_size(&self) -> Result<Option<usize>, Failure> {
        let mut stream = TcpStream::connect(&self.metrics).await?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let size = answer.lines().find_map(|line| line.strip_prefix("rocketmq_thin_proxy_fleet_size "));
        Ok(size.map(|size| size.trim().parse()).transpose()?)
    }
}

/// Waits until each proxy knows all.
async fn learned(members: &[Member]) -> Result<(), Failure> {
    let begin = Instant::now();
    for member in members {
        while member.fleet_size().await? != Some(members.len()) {
            if begin.elapsed() > LEARNING {
                return Err(format!("{} does not know its fleet", member.address).into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

fn addresses(members: &[Member]) -> Vec<String> {
    members.iter().map(|member| member.address.clone()).collect()
}

fn quota(name: &str, per: &str, topic: &str) -> String {
    format!(
        "[[quotas]]\nname = '{name}'\nper = '{per}'\ntopic = '{topic}'\nsend_messages_per_second = {LIMIT}\n"
    )
}

/// The 50th and the 99th percentile in ms. Sorts them.
fn latency(sent: &mut [Sent]) -> (f64, f64) {
    sent.sort_by_key(|sent| sent.took);
    let at = |share: f64| sent[((sent.len() - 1) as f64 * share) as usize].took.as_secs_f64() * 1e3;
    (at(0.5), at(0.99))
}
