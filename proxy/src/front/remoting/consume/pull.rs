//! PULL_MESSAGE. A pull from an offset reads the queue. A pull from a position, which is a number from 2^60 on that this
//! proxy has made up ([`super::queue_ledger`]), becomes a pop ([`super::pull_as_pop`]).

use super::super::answer::{Answered, Refusal};
use super::super::answer_bodies::{AnswerBodies, Fit};
use super::super::request::Request;
use super::pull_request::{PullRequest, answer, nothing_new};
use super::queue_ledger::is_position;
use super::queue_names::{broker_of, queue_name};
use super::{pull_as_pop, records};
use crate::processor::{PullCommand, QueryOffsetCommand, QueueName, UpdateOffsetCommand};
use crate::remoting::response;
use crate::service::{Delivery, PullOutcome, Pulled, Whence};

/// PULL_MESSAGE.
pub(super) async fn pull(request: Request) -> Answered {
    let pull_request = PullRequest::read(&request)?;
    if is_position(pull_request.from) {
        pull_as_pop::pull(request, pull_request).await
    } else {
        by_offset(request, pull_request).await
    }
}

async fn by_offset(request: Request, pull_request: PullRequest) -> Answered {
    let broker = broker_of(&request, &pull_request.topic).await?;
    let queue = queue_name(&pull_request.topic, broker, pull_request.queue_id);
    if let Some(offset) = pull_request.committed.filter(|offset| *offset > 0 && !is_position(*offset)) {
        let commit = UpdateOffsetCommand { queue: queue.clone(), group: pull_request.group.clone(), offset };
        // As with Apache's brokers, the pull continues. The client will commit again.
        if let Err(error) = request.run_uncounted(commit).await {
            tracing::debug!(
                topic = pull_request.topic,
                group = pull_request.group,
                ?error,
                "failed to store an offset"
            );
        }
    }
    let topic = pull_request.topic;
    let pull = PullCommand {
        queue: queue.clone(),
        group: pull_request.group,
        offset: pull_request.from,
        batch_size: pull_request.max,
        expression: pull_request.expression,
        polling_ms: i64::try_from(pull_request.wait.as_millis()).unwrap_or(i64::MAX),
    };
    let pulled = tokio::select! {
        biased;
        pulled = request.run(pull) => match pulled {
            // Clients expect offsets in an answer with this code.
            Err(refusal) if refusal.code == response::PULL_OFFSET_MOVED => {
                return answer_moved(&request, queue).await;
            }
            pulled => pulled?,
        },
        () = request.connection.closing().cancelled() => return Ok(nothing_new(pull_request.from, pull_request.from, pull_request.from)),
    };
    let Pulled { outcome, next_offset, range } = pulled;
    Ok(match outcome {
        PullOutcome::Nothing if next_offset > pull_request.from => {
            answer(response::PULL_RETRY_IMMEDIATELY, next_offset, range.start, range.end)
        }
        PullOutcome::Nothing => nothing_new(next_offset, range.start, range.end),
        PullOutcome::OffsetIllegal => {
            answer(response::PULL_OFFSET_MOVED, next_offset, range.start, range.end)
        }
        PullOutcome::Messages(deliveries) => {
            let (deliveries, next) = fit_into_answer(&request, deliveries).await?;
            let next_offset = next.unwrap_or(next_offset);
            if deliveries.is_empty() {
                return Ok(answer(response::PULL_RETRY_IMMEDIATELY, next_offset, range.start, range.end));
            }
            let cluster = records::cluster_of(&request, &topic).await;
            let body = records::encode(&request, &cluster, deliveries.iter(), |_| ());
            answer(response::SUCCESS, next_offset, range.start, range.end).body(body)
        }
    })
}

/// Returns the messages that fit into one answer, with decompressed bodies, and the offset of the first message that did
/// not fit. Messages that are too long for any answer are skipped.
async fn fit_into_answer(
    request: &Request,
    deliveries: Vec<Delivery>,
) -> Result<(Vec<Delivery>, Option<i64>), Refusal> {
    let mut bodies = AnswerBodies::new(&request.charge);
    let mut fitting = Vec::with_capacity(deliveries.len());
    for mut delivery in deliveries {
        match bodies.add(&mut delivery.message).await? {
            Fit::Fits => fitting.push(delivery),
            Fit::Later => return Ok((fitting, Some(delivery.queue_offset))),
            Fit::Never => tracing::warn!(
                topic = delivery.topic,
                queue_id = delivery.queue_id,
                offset = delivery.queue_offset,
                "a message is too long for classic clients: it is skipped"
            ),
        }
    }
    Ok((fitting, None))
}

/// The answer to a pull from a negative offset: the client shall continue at the first message of the queue.
async fn answer_moved(request: &Request, queue: QueueName) -> Answered {
    let query = |whence| request.run(QueryOffsetCommand { queue: queue.clone(), whence });
    let (first, end) = (query(Whence::Beginning).await?, query(Whence::End).await?);
    Ok(answer(response::PULL_OFFSET_MOVED, first, first, end))
}
