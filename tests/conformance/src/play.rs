//! Playing one case in one language on one server.

use std::{collections::HashMap, net::Ipv4Addr, sync::Arc};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};
use tokio::{net::TcpSocket, sync::Mutex, time::timeout};

use crate::{
    case::{Action, Expected, ServerEvent, Sighting, Step},
    driver::{Driver, Pending, Reply},
    flood::Ledger,
    pattern::{self, shortened},
    proxy::Proxy,
    report::Report,
    scope::Scope,
    server::ScriptedServer,
    web::WebServer,
};

/// The server of a case.
#[derive(Debug, Clone)]
pub enum Stage {
    /// The runner's own.
    Scripted(Arc<ScriptedServer>),
    /// A proxy of ours; the lock is for a restart.
    Proxy(Arc<Mutex<Proxy>>),
    /// Apache's proxy at this address.
    Apache(String),
}

/// One run of a case.
#[derive(Debug)]
pub struct Play<'a> {
    driver: &'a Driver,
    stage: Stage,
    scope: Scope,
    started: HashMap<String, Pending>,
    clients: Vec<Value>,
    ledger: Ledger,
    _web: WebServer,
    _refusing: TcpSocket,
}

impl<'a> Play<'a> {
    /// Prepares a run; `unique` is a text that no other run has.
    ///
    /// # Errors
    /// When no address can be found at which nothing listens.
    pub async fn prepare(driver: &'a Driver, stage: Stage, unique: &str) -> Result<Self> {
        let mut scope = Scope::default();
        scope.set("u", unique);
        let refusing = refusing_socket()?;
        scope.set("refused", refusing.local_addr()?.to_string());
        let web = WebServer::start().await?;
        scope.set("http", web.address());
        let endpoint = match &stage {
            Stage::Scripted(server) => {
                scope.set("ca", server.authorities().trusted.as_str());
                scope.set("other_ca", server.authorities().other.as_str());
                for (name, (cert, key)) in [
                    ("client", &server.authorities().client),
                    ("other_client", &server.authorities().other_client),
                ] {
                    scope.set(&format!("{name}_cert"), cert.as_str());
                    scope.set(&format!("{name}_key"), key.as_str());
                }
                scope.set("port", server.local().port());
                scope.set("host", server.local().ip().to_string());
                server.endpoint()
            }
            Stage::Proxy(proxy) => at(&mut scope, proxy.lock().await.address().to_owned())?,
            Stage::Apache(address) => at(&mut scope, address.clone())?,
        };
        scope.set("server", endpoint);
        Ok(Self {
            driver,
            stage,
            scope,
            started: HashMap::new(),
            clients: Vec::new(),
            ledger: Ledger::default(),
            _web: web,
            _refusing: refusing,
        })
    }

    /// Performs the steps in order.
    ///
    /// # Errors
    /// The first step that does not go as expected.
    pub async fn perform(&mut self, steps: &[Step]) -> Result<()> {
        for (number, step) in steps.iter().enumerate() {
            let place = || format!("step {} ({})", number + 1, title(&step.action));
            let done = timeout(step.within, Box::pin(self.step(step))).await;
            done.with_context(|| format!("{} hangs", place()))?.with_context(place)?;
        }
        Ok(())
    }

    /// Closes the clients that the case has left open.
    ///
    /// # Errors
    /// When the driver does not reply, which is reason enough not to use it any more.
    pub async fn clean_up(mut self) -> Result<()> {
        for handle in std::mem::take(&mut self.clients) {
            let fields =
                Map::from_iter([("handle".to_owned(), handle), ("deadline_ms".to_owned(), json!(200))]);
            // A client that the case has closed already may refuse: what counts is that the driver is alive.
            let _ = self.driver.request("close", fields).await?.reply().await?;
        }
        Ok(())
    }

    async fn step(&mut self, step: &Step) -> Result<()> {
        match &step.action {
            Action::Request { fields, gather: Some(count), .. } => {
                let reply = self.gather(self.scope.fill_fields(fields)?, *count).await?;
                self.settle(reply, step, false)?;
            }
            Action::Request { op, fields, start, gather: None } => {
                let pending = self.driver.request(op, self.scope.fill_fields(fields)?).await?;
                match start {
                    Some(name) => drop(self.started.insert(name.clone(), pending)),
                    None => self.settle(pending.reply().await?, step, op == "connect")?,
                }
            }
            Action::Join(name) => {
                let pending =
                    self.started.remove(name).with_context(|| format!("nothing started as {name}"))?;
                self.settle(pending.reply().await?, step, false)?;
            }
            Action::Cancel(name) => {
                let id = self.started.get(name).with_context(|| format!("nothing started as {name}"))?.id;
                let fields = Map::from_iter([("request".to_owned(), json!(id))]);
                let reply = self.driver.request("cancel", fields).await?.reply().await?;
                ensure!(reply.is_ok(), "cancelling failed: {reply:?}");
            }
            Action::Wait(sighting) => {
                let sighting = self.sighting(sighting)?;
                self.scripted()?.seen().wait(&sighting).await;
            }
            Action::Saw(sighting) => {
                let sighting = self.sighting(sighting)?;
                self.scripted()?.seen().check(&sighting).map_err(anyhow::Error::msg)?;
            }
            Action::Reports(report) => {
                let report = self.report(report)?;
                self.driver.until_reported(&report).await?;
                self.driver.events().check(&report).map_err(anyhow::Error::msg)?;
            }
            Action::Reported(report) => {
                self.driver.events().check(&self.report(report)?).map_err(anyhow::Error::msg)?;
            }
            Action::Server(event) => self.happen(*event).await?,
            Action::Tell { to, command, until } => {
                let (to, command) = (self.scope.fill(to)?, self.scope.fill(command)?);
                let until = until.as_ref().map(|sighting| self.sighting(sighting)).transpose()?;
                self.scripted()?.tell(&to, &command, until.as_ref()).await?;
            }
            Action::Put(messages) => self.scripted()?.put(messages)?,
            Action::Flood(flood) => {
                let mut flood = flood.clone();
                self.fill_texts([&mut flood.producer, &mut flood.topic])?;
                self.ledger.flood(self.driver, &flood, self.proxy()?).await?;
            }
            Action::Drain(drain) => {
                let mut drain = drain.clone();
                self.fill_texts([&mut drain.consumer])?;
                self.ledger.drain(self.driver, &drain, self.proxy()?).await?;
            }
            Action::Repeat { times, steps } => {
                for _ in 0..*times {
                    Box::pin(self.perform(steps)).await?;
                }
            }
        }
        Ok(())
    }

    /// Receives until so many messages have come, or one receive brings none; all as one reply.
    async fn gather(&self, fields: Map<String, Value>, count: usize) -> Result<Reply> {
        let mut messages = Vec::new();
        loop {
            let reply = self.driver.request("receive", fields.clone()).await?.reply().await?;
            let Ok(mut value) = reply else { return Ok(reply) };
            let came = value["messages"].as_array_mut().map(std::mem::take).unwrap_or_default();
            let nothing = came.is_empty();
            messages.extend(came);
            if nothing || messages.len() >= count {
                return Ok(Ok(json!({ "messages": messages })));
            }
        }
    }

    fn settle(&mut self, reply: Reply, step: &Step, is_client: bool) -> Result<()> {
        match (&reply, &step.expected) {
            (Ok(_), Expected::Success) => {}
            (Ok(value), Expected::Ok(pattern)) => {
                let pattern = self.scope.fill(pattern)?;
                pattern::check(&pattern, value)
                    .map_err(|why| anyhow::anyhow!("{why}\n  the reply: {}", shortened(value)))?;
            }
            (Err(error), Expected::Error(pattern)) => {
                let pattern = self.scope.fill(pattern)?;
                pattern::check(&pattern, error)
                    .map_err(|why| anyhow::anyhow!("error.{why}\n  the error: {}", shortened(error)))?;
            }
            (Ok(value), Expected::Error(pattern)) => {
                bail!("an error like {pattern} expected, but it succeeded: {}", shortened(value))
            }
            (Err(error), _) => bail!("failed: {}", shortened(error)),
        }
        let value = reply.unwrap_or_else(|error| error);
        if is_client && let Some(handle) = value.get("handle") {
            self.clients.push(handle.clone());
        }
        if let Some(name) = &step.save_as {
            self.scope.set(name, value);
        }
        Ok(())
    }

    async fn happen(&self, event: ServerEvent) -> Result<()> {
        match event {
            ServerEvent::DisconnectTelemetry => self.scripted()?.disconnect_telemetry(),
            ServerEvent::DropConnections => self.scripted()?.drop_connections(),
            ServerEvent::Release => self.scripted()?.release(),
            ServerEvent::KillAndRestart => self.proxy()?.lock().await.kill_and_restart().await?,
        }
        Ok(())
    }

    fn sighting(&self, sighting: &Sighting) -> Result<Sighting> {
        Ok(Sighting {
            request: sighting.request.as_ref().map(|request| self.scope.fill(request)).transpose()?,
            order: self.filled(sighting.order.as_deref())?,
            metadata: self.scope.fill_fields(&sighting.metadata)?,
            ..sighting.clone()
        })
    }

    fn report(&self, report: &Report) -> Result<Report> {
        Ok(Report {
            event: self.scope.fill(&report.event)?,
            order: self.filled(report.order.as_deref())?,
            ..report.clone()
        })
    }

    fn filled(&self, order: Option<&[Value]>) -> Result<Option<Vec<Value>>> {
        order.map(|order| order.iter().map(|value| self.scope.fill(value)).collect()).transpose()
    }

    fn fill_texts<const N: usize>(&self, texts: [&mut String; N]) -> Result<()> {
        for text in texts {
            let filled = self.scope.fill(&Value::String(text.clone()))?;
            *text = filled.as_str().context("a text expected")?.to_owned();
        }
        Ok(())
    }

    fn scripted(&self) -> Result<Arc<ScriptedServer>> {
        match &self.stage {
            Stage::Scripted(server) => Ok(Arc::clone(server)),
            Stage::Proxy(_) | Stage::Apache(_) => bail!("only the scripted server can do that"),
        }
    }

    fn proxy(&self) -> Result<Arc<Mutex<Proxy>>> {
        match &self.stage {
            Stage::Proxy(proxy) => Ok(Arc::clone(proxy)),
            Stage::Scripted(_) | Stage::Apache(_) => bail!("only a proxy of ours can do that"),
        }
    }
}

/// Names the parts of the proxy's address, and returns it.
fn at(scope: &mut Scope, address: String) -> Result<String> {
    let (host, port) = address.rsplit_once(':').context("an address without a port")?;
    scope.set("host", host);
    scope.set("port", port);
    Ok(address)
}

fn title(action: &Action) -> String {
    match action {
        Action::Request { op, .. } => op.clone(),
        Action::Join(name) => format!("join {name}"),
        Action::Cancel(name) => format!("cancel {name}"),
        Action::Wait(sighting) => format!("wait for {}", sighting.rpc),
        Action::Saw(sighting) => format!("saw {}", sighting.rpc),
        Action::Reports(report) => format!("reports {}", report.event),
        Action::Reported(report) => format!("reported {}", report.event),
        Action::Server(event) => format!("server {event:?}"),
        Action::Tell { command, .. } => format!("tell {}", shortened(command)),
        Action::Put(messages) => format!("put {} messages", messages.len()),
        Action::Flood(_) => "flood".to_owned(),
        Action::Drain(_) => "drain".to_owned(),
        Action::Repeat { times, .. } => format!("repeat {times}"),
    }
}

/// A socket whose address nothing listens at. As long as it exists, nobody else gets its port.
fn refusing_socket() -> Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    Ok(socket)
}
