//! What the handler of a request returns: an answer or a refusal.

use serde::Serialize;

use super::status;
use crate::error::Error;
use crate::front::port::Exhausted;
use crate::remoting::{Fields, RemotingCommand, response};

/// What a handler returns. The answer may have any code.
pub(super) type Answered = Result<RemotingCommand, Refusal>;

/// Why a request is refused.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: i32,
    pub(super) remark: String,
    /// Fields that the client expects in a refusal, too.
    pub(super) fields: Fields,
}

impl Refusal {
    pub(super) fn new(code: i32, remark: impl Into<String>) -> Self {
        Self { code, remark: remark.into(), fields: Fields::new() }
    }

    /// Converts the refusal to an answer.
    pub(super) fn into_command(self) -> RemotingCommand {
        RemotingCommand {
            remark: Some(self.remark),
            fields: self.fields,
            ..RemotingCommand::response(self.code)
        }
    }
}

/// The answer to a successful request.
pub(super) fn success() -> RemotingCommand {
    RemotingCommand::response(response::SUCCESS)
}

/// The answer to a successful request, with a JSON body.
pub(super) fn json(body: &impl Serialize) -> Answered {
    let body = serde_json::to_vec(body).map_err(|error| {
        Refusal::new(response::SYSTEM_ERROR, format!("the answer can't be encoded: {error}"))
    })?;
    Ok(success().body(body))
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::new(status::code(error.kind), error.message)
    }
}

impl From<Exhausted> for Refusal {
    fn from(exhausted: Exhausted) -> Self {
        Self::new(response::SYSTEM_BUSY, format!("[OVERLOAD]{}", exhausted.reason()))
    }
}
