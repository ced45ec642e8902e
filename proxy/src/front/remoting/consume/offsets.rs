//! Requests about the offset of a group in a queue, and about the offsets at which a queue begins and ends.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::super::answer::{Answered, Refusal, success};
use super::super::request::Request;
use super::consume_mode::{note_consume_mode, pull_is_pop};
use super::consumer_state::ConsumeMode;
use super::give_back::{Settler, acknowledge_before};
use super::ledger::{BrokerQueue, ClientQueue, GroupTopic};
use super::queue_ledger::{FIRST_POSITION, is_position};
use super::queue_names::{broker_of, queue_name};
use crate::error::ErrorKind;
use crate::processor::{GetOffsetCommand, QueryOffsetCommand, QueueName, UpdateOffsetCommand};
use crate::remoting::{RemotingCommand, response};
use crate::service::{Whence, time};

/// QUERY_CONSUMER_OFFSET. A client whose pulls become pops gets the first position of a new session.
pub(super) async fn query(request: Request) -> Answered {
    let (group, topic) = (request.text("consumerGroup")?, request.text("topic")?);
    let queue_id: i32 = request.number("queueId")?;
    if pull_is_pop(&request.shared, &request.connection, group) {
        note_consume_mode(&request, group, ConsumeMode::Concurrently);
        let queue = client_queue(&request, group, topic, queue_id);
        let (next, freed) = {
            let mut ledgers = request.connection.consumer_state.ledgers.lock();
            ledgers.start_queue(&queue, fresh_position(SystemTime::now()), Instant::now())
        };
        if !freed.is_empty() {
            let settler = Settler::new(&request.shared, &request.connection);
            tokio::spawn(async move { settler.give_back(vec![(queue.at, freed)]).await });
        }
        return Ok(with_offset(next));
    }
    let queue = queue_name(topic, broker_of(&request, topic).await?, queue_id);
    if let Some(offset) = stored_offset(&request, group, &queue).await? {
        return Ok(with_offset(offset));
    }
    // As with Apache's brokers, a new group begins at the first message of a queue that has lost none of its messages
    // yet.
    let wants_not_found =
        request.command.text("setZeroIfNotFound").is_some() && !request.flag("setZeroIfNotFound");
    let query = |whence| request.run(QueryOffsetCommand { queue: queue.clone(), whence });
    if !wants_not_found && query(Whence::Beginning).await? == 0 && query(Whence::End).await? > 0 {
        return Ok(with_offset(0));
    }
    Err(Refusal::new(response::QUERY_NOT_FOUND, "Not found, maybe this group consumer boot first"))
}

/// UPDATE_CONSUMER_OFFSET. For a position, acknowledges the messages before it.
pub(super) async fn update(request: Request) -> Answered {
    let (group, topic) = (request.text("consumerGroup")?, request.text("topic")?);
    let (queue_id, offset): (i32, i64) = (request.number("queueId")?, request.number("commitOffset")?);
    if is_position(offset) {
        acknowledge_before(&request, &client_queue(&request, group, topic, queue_id), offset);
        return Ok(success());
    }
    let queue = queue_name(topic, broker_of(&request, topic).await?, queue_id);
    request.run(UpdateOffsetCommand { queue, group: group.to_owned(), offset }).await?;
    Ok(success())
}

/// GET_MAX_OFFSET.
pub(super) async fn end(request: Request) -> Answered {
    offset(&request, Whence::End).await
}

/// GET_MIN_OFFSET.
pub(super) async fn beginning(request: Request) -> Answered {
    offset(&request, Whence::Beginning).await
}

/// SEARCH_OFFSET_BY_TIMESTAMP.
pub(super) async fn search(request: Request) -> Answered {
    let at = time(request.number("timestamp")?);
    offset(&request, Whence::Time(at)).await
}

async fn offset(request: &Request, whence: Whence) -> Answered {
    let topic = request.text("topic")?;
    let queue = queue_name(topic, broker_of(request, topic).await?, request.number("queueId")?);
    Ok(with_offset(request.run(QueryOffsetCommand { queue, whence }).await?))
}

/// The offset from which a group continues in a queue: the stored one, or else that of the first message.
pub(super) async fn committed_or_first(
    request: &Request,
    group: &str,
    queue: QueueName,
) -> Result<i64, Refusal> {
    match stored_offset(request, group, &queue).await? {
        Some(offset) => Ok(offset),
        None => request.run(QueryOffsetCommand { queue, whence: Whence::Beginning }).await,
    }
}

/// The stored offset of a group. `None` if there is none.
async fn stored_offset(request: &Request, group: &str, queue: &QueueName) -> Result<Option<i64>, Refusal> {
    let get = GetOffsetCommand { queue: queue.clone(), group: group.to_owned() };
    match request.shared.processor.run(&request.context(), get).await {
        Ok(offset) => Ok(Some(offset)),
        Err(error) if error.kind == ErrorKind::OffsetNotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The queue of a client whose pulls are pops.
fn client_queue(request: &Request, group: &str, topic: &str, id: i32) -> ClientQueue {
    let broker = request.broker().unwrap_or_default().to_owned();
    let at = GroupTopic { group: group.to_owned(), topic: topic.to_owned() };
    ClientQueue { at, queue: BrokerQueue { broker, id } }
}

/// The first position of a session that starts now. It is beyond the positions of all earlier sessions.
fn fresh_position(now: SystemTime) -> i64 {
    /// More messages than a client can receive from a queue in a millisecond.
    const PER_MILLISECOND: i64 = 1 << 16;
    let millis = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    FIRST_POSITION + millis * PER_MILLISECOND
}

fn with_offset(offset: i64) -> RemotingCommand {
    success().field("offset", offset)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn first_positions_rise_with_time_for_centuries() {
        let now = SystemTime::now();
        let later = now + Duration::from_millis(1);
        assert!(fresh_position(now) + 60_000 < fresh_position(later));
        let century = Duration::from_secs(100 * 365 * 24 * 3600);
        assert!(is_position(fresh_position(UNIX_EPOCH)) && is_position(fresh_position(now + century * 5)));
    }
}
