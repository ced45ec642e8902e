//! Administration of dead letters. They are read like other messages, in the topic of their group.

use std::sync::Arc;

use axum::Json as JsonAnswer;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Shared;
use super::call::{Caller, Json, Named};
use super::problem::Problem;
use crate::processor::{LetterPosition, ResendSelection};

/// Dead letters of one call.
const MAX_LETTERS: usize = 100;

/// Which dead letters to send again: the next ones, or one by its id.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Resend {
    /// How many of the next ones.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 100)]
    next: Option<usize>,
    /// The id of one.
    #[serde(default)]
    id: Option<String>,
    /// Where to look for the id first: where the letter is stored, or `searched_to` of the call before.
    #[serde(default)]
    from: Option<LetterPlace>,
}

/// A place in the dead letters of a group.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LetterPlace {
    broker: String,
    queue_id: i32,
    offset: i64,
}

/// What was sent again.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Resent {
    letters: Vec<ResentLetter>,
    /// Whether there are no others.
    finished: bool,
    /// How far the search for the id has got, if it did not end in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    searched_to: Option<LetterPlace>,
    /// Why it did not go on, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

/// A dead letter.
#[derive(Debug, Serialize, ToSchema)]
struct ResentLetter {
    message_id: String,
    /// The topic that it was sent to again.
    topic: String,
    /// Why it was not sent, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

/// Send dead letters of a group again
#[utoipa::path(
    post, path = "/v1/groups/{group}/dead-letters/resend", operation_id = "resendDeadLetters", tag = "administration",
    params(("group" = String, Path)), request_body = Resend,
    responses(
        (status = 200, description = "What was sent", body = Resent),
        (status = "default", description = "It was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn resend(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Named(group): Named<String>,
    Json(Resend { next, id, from }): Json<Resend>,
) -> Result<JsonAnswer<Resent>, Problem> {
    caller.may(&shared, "ResendDeadLetters")?;
    let from = from.map(|LetterPlace { broker, queue_id, offset }| LetterPosition {
        broker,
        queue: queue_id,
        offset,
    });
    let selection = match (next, id) {
        (Some(max @ 1..=MAX_LETTERS), None) if from.is_none() => ResendSelection::Next(max),
        (None, Some(id)) => ResendSelection::Id { id, from },
        _ => return Err(Problem::bad_request("say which dead letters: the next 1 to 100, or an id")),
    };
    let page = shared.processor.resend_dead_letters(&group, selection).await?;
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
