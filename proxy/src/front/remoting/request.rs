//! The request that a handler gets.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::de::DeserializeOwned;

use super::answer::Refusal;
use super::client_connection::ClientConnection;
use super::request_charge::RequestCharge;
use super::shared::Shared;
use crate::context::{Context, Credentials, Signed, WireProtocol};
use crate::front::json_values;
use crate::layer::{Names, OperationKind, RequestFacts, Right, Size};
use crate::processor;
use crate::remoting::{RemotingCommand, lenient, response};

/// What a value of a JSON body takes in memory when it is decoded, about: an element of a list is a struct with some
/// texts.
const VALUE_BYTES: usize = 128;
/// A field of QUERY_MESSAGE, and the newest version (4.9.3) whose clients don't sign it.
const BY_UNIQUE_KEY: &str = "_UNIQUE_KEY_QUERY";
const LAST_UNSIGNED: i32 = 399;

/// The longest name of a topic, group or broker that the proxy keeps copies of, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 255;

/// A request, with its connection and the state of the front end.
pub(super) struct Request {
    pub(super) shared: Arc<Shared>,
    /// The connection on which it arrived.
    pub(super) connection: Arc<ClientConnection>,
    pub(super) command: RemotingCommand,
    /// The memory that it holds.
    pub(super) charge: RequestCharge,
    /// How many fields it may have, in its body, too (`transport.request_fields`).
    pub(super) max_fields: usize,
    /// The sender's credentials. The signature covers the request as it arrived.
    credentials: Option<Box<Credentials>>,
    /// Whether a command of it was counted. Some requests need several commands.
    counted: AtomicBool,
}

/// Refuses names that are too long to keep copies of.
///
/// # Errors
/// `INVALID_PARAMETER`.
pub(super) fn check_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<(), Refusal> {
    if names.into_iter().all(|name| name.len() <= MAX_NAME_BYTES) {
        return Ok(());
    }
    let text = format!("the name of a group, topic or broker is longer than {MAX_NAME_BYTES} bytes");
    Err(Refusal::new(response::INVALID_PARAMETER, text))
}

/// The limits of a request.
pub(super) struct RequestLimits {
    /// The memory that it holds.
    pub(super) charge: RequestCharge,
    /// How many fields it may have.
    pub(super) max_fields: usize,
}

impl Request {
    /// Creates a request that has just arrived.
    pub(super) fn new(
        shared: Arc<Shared>,
        connection: Arc<ClientConnection>,
        command: RemotingCommand,
        RequestLimits { charge, max_fields }: RequestLimits,
    ) -> Self {
        let credentials = credentials(&command);
        Self { shared, connection, command, charge, max_fields, credentials, counted: AtomicBool::new(false) }
    }

    /// A required field.
    ///
    /// # Errors
    /// `SYSTEM_ERROR` if it is absent.
    pub(super) fn text(&self, key: &str) -> Result<&str, Refusal> {
        self.command.text(key).ok_or_else(|| missing(key))
    }

    /// A required number.
    ///
    /// # Errors
    /// `SYSTEM_ERROR` if it is absent or unreadable.
    pub(super) fn number<T: FromStr>(&self, key: &str) -> Result<T, Refusal> {
        self.command.number(key).ok_or_else(|| missing(key))
    }

    /// An optional number.
    ///
    /// # Errors
    /// `SYSTEM_ERROR` if it is unreadable, as at Apache's brokers.
    pub(super) fn optional_number<T: FromStr>(&self, key: &str) -> Result<Option<T>, Refusal> {
        self.command.text(key).map(|_| self.number(key)).transpose()
    }

    /// An optional boolean field. False if it is absent.
    pub(super) fn flag(&self, key: &str) -> bool {
        self.command.text(key).is_some_and(|text| text.eq_ignore_ascii_case("true"))
    }

    /// Decodes the body as JSON. Numbers as keys may be without quotes.
    ///
    /// # Errors
    /// `SYSTEM_ERROR` if it can't be read or has too many values, `SYSTEM_BUSY` if there is no memory for them.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        let (values, max_fields) = (json_values::count(&self.command.body), self.max_fields);
        if values > max_fields {
            let text = format!("the body has more than {max_fields} values (transport.request_fields)");
            return Err(Refusal::new(response::SYSTEM_ERROR, text));
        }
        self.charge.grow(values.saturating_mul(VALUE_BYTES))?;
        lenient::from_slice(&self.command.body)
            .map_err(|error| Refusal::new(response::SYSTEM_ERROR, format!("the body is not valid: {error}")))
    }

    /// The name of the broker that the client has chosen. Old clients don't send it.
    pub(super) fn broker(&self) -> Option<&str> {
        let named = |key| self.command.text(key).filter(|name| !name.is_empty());
        named("bname").or_else(|| named("n"))
    }

    /// The context of a command that this request needs. Only the first command of a request is counted.
    pub(super) fn context(&self) -> Context {
        self.context_of(&self.client_id())
    }

    fn client_id(&self) -> String {
        let client = self.connection.client();
        if client.id.is_empty() { self.connection.peer().to_string() } else { client.id.to_string() }
    }

    /// Like [`Request::context`], for a client whose id is in this request.
    pub(super) fn context_of(&self, client_id: &str) -> Context {
        let is_continued = self.counted.swap(true, Ordering::Relaxed);
        self.context_of_part(client_id, is_continued)
    }

    fn context_of_part(&self, client_id: &str, is_continued: bool) -> Context {
        Context {
            protocol: WireProtocol::Remoting,
            client_id: client_id.to_owned(),
            client_version: self.command.version.to_string(),
            client_language: self.command.language.name().to_owned(),
            namespace: self.command.text("ns").unwrap_or_default().to_owned(),
            credentials: self.credentials.clone(),
            certificate: self.connection.origin().certificate.clone(),
            is_admitted: false,
            entry: Some(self.connection.origin().entry.clone()),
            is_continued,
            peer: self.connection.peer().clone(),
            received: Instant::now(),
            deadline: None,
        }
    }

    /// The context of a command that is not counted as this request.
    pub(super) fn uncounted_context(&self) -> Context {
        self.context_of_part(&self.client_id(), true)
    }

    /// Runs a command.
    ///
    /// # Errors
    /// The processor's refusal, by [`super::status`].
    pub(super) async fn run<C: processor::Command>(&self, command: C) -> Result<C::Answer, Refusal> {
        self.shared.processor.run(&self.context(), command).await.map_err(Refusal::from)
    }

    /// Runs an auxiliary command, which is not counted. The command that the request asks for is counted instead,
    /// whichever of them runs first.
    ///
    /// # Errors
    /// As [`Request::run`].
    pub(super) async fn run_uncounted<C: processor::Command>(
        &self,
        command: C,
    ) -> Result<C::Answer, Refusal> {
        let context = self.uncounted_context();
        self.shared.processor.run(&context, command).await.map_err(Refusal::from)
    }

    /// Checks that the sender has this right of administration.
    ///
    /// # Errors
    /// `NO_PERMISSION`.
    pub(super) fn check_admin_right(&self, right: Right) -> Result<(), Refusal> {
        self.shared.processor.administer(&self.context(), right).map_err(Refusal::from)
    }

    /// Checks that the sender may perform an operation that is not a command of the processor.
    ///
    /// # Errors
    /// `NO_PERMISSION`.
    pub(super) fn check(
        &self,
        kind: OperationKind,
        topics: &dyn Names,
        groups: &dyn Names,
    ) -> Result<(), Refusal> {
        let messages = usize::from(kind == OperationKind::Send);
        let largest = self.command.body.len();
        let size = Size { messages, bytes: messages * largest, largest };
        let facts = RequestFacts { kind, context: &self.context(), topics, groups, size };
        self.shared.processor.check(&facts).map_err(Refusal::from)
    }
}

/// The credentials of a request. The signature covers the values of all other fields in the order of their names, and
/// then the body.
fn credentials(command: &RemotingCommand) -> Option<Box<Credentials>> {
    const SIGNATURE: &str = "Signature";
    let (access_key, token) = (command.text("AccessKey"), command.text("SecurityToken").unwrap_or_default());
    if access_key.is_none() && token.is_empty() {
        return None;
    }
    let signature = command.text(SIGNATURE).unwrap_or_default();
    let authorization =
        access_key.map(|access_key| format!("HmacSHA1 Credential={access_key}, Signature={signature}"));
    let is_signed = |key: &str| match key {
        SIGNATURE => false,
        BY_UNIQUE_KEY => command.version > LAST_UNSIGNED,
        _ => true,
    };
    let fields = command.fields.iter().filter(|(key, _)| is_signed(key));
    Some(Box::new(Credentials {
        authorization: authorization.unwrap_or_default(),
        signed: Signed::Request {
            fields: fields.map(|(_, value)| value.as_str()).collect(),
            body: command.body.clone(),
        },
        session_token: token.to_owned(),
    }))
}

fn missing(key: &str) -> Refusal {
    Refusal::new(response::SYSTEM_ERROR, format!("the field {key} is missing or invalid"))
}
