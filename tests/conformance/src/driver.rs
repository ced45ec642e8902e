//! The program of one language, spoken to by JSON lines.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    process::Stdio,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::{OnceCell, oneshot},
};
use tokio_util::sync::CancellationToken;

use crate::report::{Events, Report};

/// Lines of a driver's error output that a report shows.
const TAIL: usize = 30;

/// How to start a language's driver.
#[derive(Debug, Clone)]
pub struct Language {
    /// `rust`, `python`, …
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
}

/// A running driver; killed when dropped.
#[derive(Debug)]
pub struct Driver {
    stdin: tokio::sync::Mutex<ChildStdin>,
    next: AtomicU64,
    waiting: Arc<Waiting>,
    errors: Arc<Mutex<VecDeque<String>>>,
    events: Arc<Events>,
    ended: CancellationToken,
    features: OnceCell<BTreeSet<String>>,
    _child: Child,
}

type Waiting = Mutex<HashMap<u64, oneshot::Sender<Value>>>;

/// A request that was sent.
#[derive(Debug)]
pub struct Pending {
    /// The id by which it is cancelled.
    pub id: u64,
    reply: oneshot::Receiver<Value>,
}

/// A success or an error of the library under test.
pub type Reply = Result<Value, Value>;

impl Pending {
    /// The reply: the value of `ok`, or that of `error`.
    ///
    /// # Errors
    /// When the driver ended, or its reply has neither.
    pub async fn reply(self) -> Result<Reply> {
        let mut reply = self.reply.await.context("the driver ended before it replied")?;
        if let Some(value) = reply.get_mut("ok") {
            return Ok(Ok(value.take()));
        }
        match reply.get_mut("error") {
            Some(error) => Ok(Err(error.take())),
            None => bail!("a reply without ok and error: {reply}"),
        }
    }
}

impl Driver {
    /// Starts a language's driver.
    ///
    /// # Errors
    /// When the program can't be started.
    pub fn start(language: &Language) -> Result<Self> {
        let (program, arguments) = language.command.split_first().context("an empty driver command")?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting the {} driver: {program}", language.name))?;
        let stdin = child.stdin.take().context("no stdin")?;
        let stdout = child.stdout.take().context("no stdout")?;
        let stderr = child.stderr.take().context("no stderr")?;
        let waiting = Arc::new(Waiting::default());
        let errors = Arc::new(Mutex::new(VecDeque::new()));
        let (events, ended) = (Arc::new(Events::default()), CancellationToken::new());
        let reader = Reader {
            waiting: Arc::clone(&waiting),
            errors: Arc::clone(&errors),
            events: Arc::clone(&events),
        };
        let guard = ended.clone().drop_guard();
        tokio::spawn(async move {
            reader.read(BufReader::new(stdout)).await;
            drop(guard);
        });
        let kept = Arc::clone(&errors);
        tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                keep(&kept, line);
            }
        });
        Ok(Self {
            stdin: stdin.into(),
            next: AtomicU64::new(1),
            waiting,
            errors,
            events,
            ended,
            features: OnceCell::new(),
            _child: child,
        })
    }

    /// Sends a request.
    ///
    /// # Errors
    /// When the driver has ended.
    pub async fn request(&self, op: &str, mut fields: Map<String, Value>) -> Result<Pending> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        fields.insert("id".to_owned(), json!(id));
        fields.insert("op".to_owned(), json!(op));
        let (sender, reply) = oneshot::channel();
        lock(&self.waiting).insert(id, sender);
        let mut line = serde_json::to_vec(&Value::Object(fields))?;
        line.push(b'\n');
        let mut stdin = self.stdin.lock().await;
        stdin.write_all(&line).await.context("writing to the driver")?;
        stdin.flush().await.context("writing to the driver")?;
        Ok(Pending { id, reply })
    }

    /// The features that it has; one that does not know the question has none.
    ///
    /// # Errors
    /// When it ends.
    pub async fn features(&self) -> Result<&BTreeSet<String>> {
        let ask = async || {
            let reply = self.request("features", Map::new()).await?.reply().await?;
            Ok(serde_json::from_value(reply.unwrap_or_default()["features"].take()).unwrap_or_default())
        };
        self.features.get_or_try_init(ask).await
    }

    /// What it has reported.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Returns as soon as it has reported enough of what is wanted.
    ///
    /// # Errors
    /// When it ends before.
    pub async fn until_reported(&self, wanted: &Report) -> Result<()> {
        tokio::select! {
            () = self.events.wait(wanted) => Ok(()),
            () = self.ended.cancelled() => bail!("the driver ended before it reported {}", wanted.event),
        }
    }

    /// The end of what it wrote to its error output.
    #[must_use]
    pub fn error_output(&self) -> String {
        lock(&self.errors).iter().cloned().collect::<Vec<_>>().join("\n")
    }
}

/// Who takes what a driver writes to its standard output.
struct Reader {
    waiting: Arc<Waiting>,
    errors: Arc<Mutex<VecDeque<String>>>,
    events: Arc<Events>,
}

impl Reader {
    async fn read(self, stdout: BufReader<tokio::process::ChildStdout>) {
        let mut lines = stdout.lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let said = serde_json::from_str::<Value>(&line).unwrap_or_default();
            let sender = said["id"].as_u64().and_then(|id| lock(&self.waiting).remove(&id));
            match sender {
                Some(sender) => drop(sender.send(said)),
                None if said["event"].is_string() => self.events.add(said),
                None => keep(&self.errors, format!("on stdout, but no reply to a request: {line}")),
            }
        }
        // Nobody will reply any more: whoever waits learns it from the dropped senders.
        lock(&self.waiting).clear();
    }
}

fn keep(errors: &Mutex<VecDeque<String>>, line: String) {
    let mut errors = lock(errors);
    if errors.len() == TAIL {
        errors.pop_front();
    }
    errors.push_back(line);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
