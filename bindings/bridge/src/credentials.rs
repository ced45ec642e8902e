//! Credentials that a function of the language provides. The core asks, and decides how long it waits.

use std::sync::Arc;

use parking_lot::Mutex;
use rocketmq_thin::{ClientOptions, Credentials, Error};
use tokio::sync::{mpsc, oneshot};

use crate::bound::Bound;
use crate::operation::Operation;
use crate::outcome::Outcome;
use crate::process::Process;

type Answer = oneshot::Sender<Result<Credentials, String>>;

/// The requests of one client for credentials.
pub struct CredentialRequests(Bound<Arc<Requests>>);

struct Requests {
    /// Moves into the options of the client.
    sender: Mutex<Option<mpsc::Sender<Answer>>>,
    receiver: tokio::sync::Mutex<mpsc::Receiver<Answer>>,
    /// What the request that was fetched last waits for.
    asked: Mutex<Option<Answer>>,
}

impl CredentialRequests {
    /// The requests of a client that is about to be made.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the process cannot start a thread.
    pub fn new() -> Result<Self, Error> {
        let (sender, receiver) = mpsc::channel(1);
        let requests = Requests {
            sender: Mutex::new(Some(sender)),
            receiver: tokio::sync::Mutex::new(receiver),
            asked: Mutex::default(),
        };
        Ok(Self(Bound::new(Arc::new(requests), Process::current()?)))
    }

    /// Options of a client that asks here for its credentials. Of one client: further ones get no credentials.
    ///
    /// # Errors
    ///
    /// `Closed` in a forked child.
    pub fn provide_for(&self, options: ClientOptions) -> Result<ClientOptions, Error> {
        let Some(sender) = self.0.call("connect", |requests| requests.sender.lock().take())? else {
            return Ok(options);
        };
        Ok(options.credentials_provider(move || {
            let sender = sender.clone();
            async move {
                let (answer, answered) = oneshot::channel();
                sender.send(answer).await.map_err(|_| "nobody provides credentials any more")?;
                Ok(answered.await.map_err(|_| "nobody has provided credentials")??)
            }
        }))
    }

    /// Waits until the client needs credentials: [`Outcome::Done`]; [`Outcome::End`] once it is closed, or could not
    /// connect. Begin with this before the client connects, and after each answer.
    pub fn next(&self) -> Operation {
        self.0.operation("credentials", |requests| async move {
            let mut receiver = requests.receiver.lock().await;
            while let Some(answer) = receiver.recv().await {
                // The client may have given up waiting.
                if !answer.is_closed() {
                    *requests.asked.lock() = Some(answer);
                    return Ok(Outcome::Done);
                }
            }
            Ok(Outcome::End)
        })
    }

    /// Answers the request that was fetched last: with credentials, or with the reason why there are none.
    ///
    /// # Errors
    ///
    /// `Closed` in a forked child.
    pub fn answer(&self, provided: Result<Credentials, String>) -> Result<(), Error> {
        let asked = self.0.call("credentials", |requests| requests.asked.lock().take())?;
        if let Some(asked) = asked {
            // The client may have given up waiting.
            let _ = asked.send(provided);
        }
        Ok(())
    }
}
