//! Locks queues for clients. Consumers that read each queue by offset in order use these locks.

use std::sync::Arc;

use super::command::Command;
use super::environment::Environment;
use super::pull::{QueueName, check_queue};
use super::{group, validate};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::layer::{Names, OperationKind};
use crate::service::{QueueLock, TopicQueue};

/// The maximum number of queues in one request.
const MAX_QUEUES: usize = 1024;

/// Locks queues for the client, for [`crate::service::LOCK_TIME`]. Returns the queues that are now locked for it.
///
/// # Errors
/// In this order: `BadRequest` (a long client id), `IllegalGroup`, `BadRequest` (too many queues), `IllegalTopic`,
/// `BadRequest` (a queue without a broker or with a negative id), then errors of the group and the backend.
#[derive(Clone, Debug)]
pub struct LockCommand {
    /// The consumer group.
    pub group: String,
    /// The queues.
    pub queues: Vec<QueueName>,
}

/// Releases the client's locks.
///
/// # Errors
/// As [`LockCommand`].
#[derive(Clone, Debug)]
pub struct UnlockCommand {
    /// The consumer group.
    pub group: String,
    /// The queues.
    pub queues: Vec<QueueName>,
}

impl Names for Vec<QueueName> {
    fn each<'a>(&'a self, visit: &mut dyn FnMut(&'a str)) {
        self.iter().for_each(|queue| visit(&queue.topic));
    }
}

impl Command for LockCommand {
    type Answer = Vec<QueueName>;
    const KIND: OperationKind = OperationKind::LockQueues;

    fn topics(&self) -> &dyn Names {
        &self.queues
    }

    fn groups(&self) -> &dyn Names {
        &self.group
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<Vec<QueueName>, Error> {
        let mut locked = Vec::new();
        check(context, &self.group, &self.queues)?;
        for lock in by_broker(environment, context, &self.group, self.queues) {
            let services = environment.services(context, topic_of(&lock));
            group::load_for_consuming(services, &lock.group).await?;
            let broker = lock.broker.clone();
            for TopicQueue { topic, id } in services.offsets.lock(lock).await? {
                locked.push(QueueName { topic, broker: broker.clone(), id });
            }
        }
        Ok(locked)
    }
}

impl Command for UnlockCommand {
    type Answer = ();
    const KIND: OperationKind = OperationKind::UnlockQueues;

    fn topics(&self) -> &dyn Names {
        &self.queues
    }

    fn groups(&self) -> &dyn Names {
        &self.group
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<(), Error> {
        check(context, &self.group, &self.queues)?;
        for lock in by_broker(environment, context, &self.group, self.queues) {
            environment.services(context, topic_of(&lock)).offsets.unlock(lock).await?;
        }
        Ok(())
    }
}

fn check(context: &Context, group: &str, queues: &[QueueName]) -> Result<(), Error> {
    validate::client(context)?;
    validate::group(group)?;
    if queues.len() > MAX_QUEUES {
        let message = format!("a request can't name more than {MAX_QUEUES} queues");
        return Err(Error::new(ErrorKind::BadRequest, message));
    }
    queues.iter().try_for_each(check_queue)
}

/// Splits the queues by broker and topic, because different topics may be in different clusters. Nearly always there is one
/// part: clients send each broker a request for its own queues.
fn by_broker(
    environment: &Environment,
    context: &Context,
    group: &str,
    queues: Vec<QueueName>,
) -> Vec<QueueLock> {
    let mut locks: Vec<QueueLock> = Vec::new();
    let host: Arc<str> = context.host().network().to_string().into();
    for QueueName { topic, broker, id } in queues {
        let queue = TopicQueue { topic, id };
        let same = locks.iter_mut().find(|lock| lock.broker == broker && topic_of(lock) == queue.topic);
        match same {
            Some(lock) => lock.queues.push(queue),
            None => locks.push(QueueLock {
                group: group.to_owned(),
                client_id: context.client_id.clone(),
                host: host.clone(),
                broker,
                queues: vec![queue],
                deadline: context.deadline_within(environment.limits.call),
            }),
        }
    }
    locks
}

fn topic_of(lock: &QueueLock) -> &str {
    lock.queues.first().map_or("", |queue| queue.topic.as_str())
}

#[cfg(test)]
mod tests {
    use super::super::limits::Limits;
    use super::super::validate::CLIENT_BYTES;
    use super::super::{ClusterRouter, scripted};
    use super::*;

    #[tokio::test]
    async fn a_client_with_a_long_id_locks_no_queue() {
        let ([services], _calls): ([_; 1], _) = scripted::backends();
        let processor = scripted::processor(ClusterRouter::single(services), Limits::default());
        let context = Context::of_client(&"c".repeat(CLIENT_BYTES + 1));
        let queue = QueueName { topic: "t".to_owned(), broker: "b".to_owned(), id: 0 };
        let unlock = UnlockCommand { group: "g".to_owned(), queues: vec![queue] };
        let refused = processor.run(&context, unlock).await.expect_err("too long");
        assert_eq!(refused.kind, ErrorKind::BadRequest);
    }
}
