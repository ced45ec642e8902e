//! Resending dead letters. They are read as other messages, from the dead-letter topic of their group.

use std::sync::Arc;

use axum::Json as JsonAnswer;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::call::{Caller, Json, Object, PathParams};
use super::problem::Problem;
use super::shared::Shared;
use crate::processor::{LetterPosition, ResendSelection};

/// The maximum number of dead letters of one call.
const MAX_LETTERS: usize = 100;

/// The dead letters to resend: the next ones, or one by its id.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Resend {
    /// The maximum number of dead letters to resend.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 100)]
    next: Option<usize>,
    /// The id of a single dead letter.
    #[serde(default)]
    id: Option<String>,
    /// The position at which to start the search for the id: that of the dead letter, or `searched_to` of the previous call.
    #[serde(default)]
    #[schema(value_type = Option<LetterPlace>)]
    from: Option<Object<LetterPlace>>,
}

impl Resend {
    pub(super) fn selection(self) -> Result<ResendSelection, Problem> {
        let from = self.from.map(|Object(LetterPlace { broker, queue_id, offset })| LetterPosition {
            broker,
            queue: queue_id,
            offset,
        });
        match (self.next, self.id) {
            (Some(max @ 1..=MAX_LETTERS), None) if from.is_none() => Ok(ResendSelection::Next(max)),
            (None, Some(id)) => Ok(ResendSelection::Id { id, from }),
            _ => Err(Problem::bad_request("expected next from 1 to 100, or an id")),
        }
    }
}

/// A position in the dead letters of a group.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LetterPlace {
    broker: String,
    queue_id: i32,
    offset: i64,
}

/// The result of resending.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Resent {
    letters: Vec<ResentLetter>,
    /// Whether there are no further dead letters to resend.
    finished: bool,
    /// The position that the search for the id has reached, if it did not end in time. Repeat the call with it as `from`.
    #[serde(skip_serializing_if = "Option::is_none")]
    searched_to: Option<LetterPlace>,
    /// Why resending ended early, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

/// A dead letter, with its result.
#[derive(Debug, Serialize, ToSchema)]
struct ResentLetter {
    message_id: String,
    /// The topic to which it was resent.
    topic: String,
    /// Why it was not resent, if it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

/// Resend dead letters of a group
#[utoipa::path(
    post, path = "/v1/groups/{group}/dead-letters/resend", operation_id = "resendDeadLetters", tag = "administration",
    params(("group" = String, Path)), request_body = Resend,
    responses(
        (status = 200, description = "The resent dead letters", body = Resent),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn resend(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    PathParams(group): PathParams<String>,
    Json(resend): Json<Resend>,
) -> Result<JsonAnswer<Resent>, Problem> {
    caller.authorize(&shared, "ResendDeadLetters")?;
    let page = shared.processor.resend_dead_letters(&group, resend.selection()?).await?;
    let letters = page.letters.into_iter().map(|letter| ResentLetter {
        message_id: letter.id,
        topic: letter.topic,
        failure: letter.failure,
    });
    let place = |LetterPosition { broker, queue, offset }| LetterPlace { broker, queue_id: queue, offset };
    Ok(JsonAnswer(Resent {
        letters: letters.collect(),
        finished: page.finished,
        searched_to: page.searched_to.map(place),
        failure: page.failure,
    }))
}
