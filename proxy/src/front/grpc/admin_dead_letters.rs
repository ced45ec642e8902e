//! Converts requests to resend dead letters, and their results, between the wire and the processor.

use rocketmq_thin_proto::thin as pb;
use tonic::Status;

use crate::processor::{LetterPosition, ResendSelection, ResentLetter, ResentPage};

pub(super) fn resend_to_wire(group: String, selection: ResendSelection) -> pb::ResendDeadLettersRequest {
    use pb::resend_dead_letters_request::Selection;
    let (selection, from) = match selection {
        ResendSelection::Next(max) => (Selection::Next(i32::try_from(max).unwrap_or(i32::MAX)), None),
        ResendSelection::Id { id, from } => (Selection::Id(id), from),
    };
    pb::ResendDeadLettersRequest { group, selection: Some(selection), from: from.map(position_to_wire) }
}

pub(super) fn resend(request: pb::ResendDeadLettersRequest) -> Result<(String, ResendSelection), Status> {
    use pb::resend_dead_letters_request::Selection;
    let selection = match request.selection {
        Some(Selection::Next(max)) => {
            let max = usize::try_from(max).ok().filter(|max| *max > 0);
            ResendSelection::Next(max.ok_or_else(|| Status::invalid_argument("next must be positive"))?)
        }
        Some(Selection::Id(id)) => ResendSelection::Id { id, from: request.from.map(position) },
        None => return Err(Status::invalid_argument("the selection is missing; expected next or id")),
    };
    Ok((request.group, selection))
}

pub(super) fn resent_to_wire(page: ResentPage) -> pb::ResendDeadLettersResponse {
    let letter = |letter: ResentLetter| pb::ResentLetter {
        id: letter.id,
        queue_id: letter.queue,
        offset: letter.offset,
        topic: letter.topic,
        failure: letter.failure,
    };
    pb::ResendDeadLettersResponse {
        letters: page.letters.into_iter().map(letter).collect(),
        finished: page.finished,
        unreached: page.unreached,
        searched_to: page.searched_to.map(position_to_wire),
        failure: page.failure,
    }
}

pub(super) fn resent(page: pb::ResendDeadLettersResponse) -> ResentPage {
    let letter = |letter: pb::ResentLetter| ResentLetter {
        id: letter.id,
        queue: letter.queue_id,
        offset: letter.offset,
        topic: letter.topic,
        failure: letter.failure,
    };
    ResentPage {
        letters: page.letters.into_iter().map(letter).collect(),
        finished: page.finished,
        unreached: page.unreached,
        searched_to: page.searched_to.map(position),
        failure: page.failure,
    }
}

fn position_to_wire(position: LetterPosition) -> pb::LetterPosition {
    let LetterPosition { broker, queue, offset } = position;
    pb::LetterPosition { broker, queue_id: queue, offset }
}

fn position(position: pb::LetterPosition) -> LetterPosition {
    let pb::LetterPosition { broker, queue_id, offset } = position;
    LetterPosition { broker, queue: queue_id, offset }
}
