//! Credentials that a function of the language provides. The core decides when it requests them, and how long
//! it waits.

use std::sync::Arc;

use parking_lot::Mutex;
use rocketmq_thin::{ClientOptions, Credentials, Error};
use tokio::sync::{mpsc, oneshot};

use crate::operation::Operation;
use crate::outcome::Outcome;
use crate::process::Process;
use crate::process_bound::ProcessBound;

type AnswerSender = oneshot::Sender<Result<Credentials, String>>;

/// The credential requests of one client. The language fetches and answers them.
pub struct CredentialRequests(ProcessBound<Arc<Requests>>);

struct Requests {
    /// Taken when it moves into the options of the client.
    sender: Mutex<Option<mpsc::Sender<AnswerSender>>>,
    receiver: tokio::sync::Mutex<mpsc::Receiver<AnswerSender>>,
    /// The request that was fetched last, until it is answered.
    fetched: Mutex<Option<AnswerSender>>,
}

impl CredentialRequests {
    /// Creates the credential requests of a client that is not connected yet.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the process cannot start a thread.
    pub fn new() -> Result<Self, Error> {
        let (sender, receiver) = mpsc::channel(1);
        let requests = Requests {
            sender: Mutex::new(Some(sender)),
            receiver: tokio::sync::Mutex::new(receiver),
            fetched: Mutex::default(),
        };
        Ok(Self(ProcessBound::new(Arc::new(requests), Process::current()?)))
    }

    /// Returns the options with a credentials provider that sends its requests here. Only the first call adds
    /// the provider: later calls return the options unchanged.
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
                sender.send(answer).await.map_err(|_| "the application no longer provides credentials")?;
                Ok(answered.await.map_err(|_| "the application has not provided credentials")??)
            }
        }))
    }

    /// Waits until the client needs credentials: [`Outcome::Done`]; [`Outcome::End`] once the client is
    /// closed, or has failed to connect. Submit this before the client connects, and again after each answer.
    pub fn next(&self) -> Operation {
        self.0.operation("credentials", |requests| async move {
            let mut receiver = requests.receiver.lock().await;
            while let Some(answer) = receiver.recv().await {
                // The client may have given up waiting.
                if !answer.is_closed() {
                    *requests.fetched.lock() = Some(answer);
                    return Ok(Outcome::Done);
                }
            }
            Ok(Outcome::End)
        })
    }

    /// Answers the request that was fetched last, with credentials or with an error message.
    ///
    /// # Errors
    ///
    /// `Closed` in a forked child.
    pub fn answer(&self, provided: Result<Credentials, String>) -> Result<(), Error> {
        let request = self.0.call("credentials", |requests| requests.fetched.lock().take())?;
        if let Some(request) = request {
            // The client may have given up waiting.
            let _ = request.send(provided);
        }
        Ok(())
    }

    /// Refuses the requests that were not answered, and all later ones, with an error message. The language calls this
    /// when its credentials provider has ended. Never blocks, and does nothing in a forked child.
    pub fn refuse_all(&self, message: String) {
        let Some(requests) = self.0.get().map(Arc::clone) else { return };
        self.0.process().handle().spawn(async move {
            // Without a client that uses the sender, there will be no request, and the receiver ends.
            drop(requests.sender.lock().take());
            // A cancelled `next` may still hold the receiver for a moment.
            let mut receiver = requests.receiver.lock().await;
            let mut next = requests.fetched.lock().take();
            if next.is_none() {
                next = receiver.recv().await;
            }
            while let Some(answer) = next {
                // The client may have given up waiting.
                let _ = answer.send(Err(message.clone()));
                next = receiver.recv().await;
            }
        });
    }
}
