//! The operations of a push consumer.

use std::time::Duration;

use rocketmq_thin::{CLOSE_DEADLINE, ConsumeResult, Error};

use crate::operation::Operation;
use crate::outcome::Outcome;
use crate::process::forked_error;
use crate::process_bound::{ProcessBound, PushConsumer, Task};
use crate::tasks::Tasks;

const SETTLE: &str = "settle";

impl PushConsumer {
    /// Waits for messages that may be handled now, and takes at most `max`: [`Outcome::Tasks`];
    /// [`Outcome::End`] once the consumer is closed.
    pub fn next_tasks(&self, max: usize) -> Operation {
        let process = self.process();
        self.operation("next_tasks", move |consumer| async move {
            let tasks = consumer.next_tasks(max).await;
            Ok(tasks.map_or(Outcome::End, |tasks| {
                let tasks = tasks.into_iter().map(|task| ProcessBound::new(task, process));
                Outcome::Tasks(Tasks::new(tasks.collect()))
            }))
        })
    }

    /// Hands out no more messages until [`resume`](Self::resume).
    ///
    /// # Errors
    ///
    /// `Closed` in a forked child.
    pub fn pause(&self) -> Result<(), Error> {
        self.call("pause", rocketmq_thin::PushConsumer::pause)
    }

    /// Resumes handing out messages after a pause.
    ///
    /// # Errors
    ///
    /// `Closed` in a forked child.
    pub fn resume(&self) -> Result<(), Error> {
        self.call("resume", rocketmq_thin::PushConsumer::resume)
    }

    /// Returns whether the consumer is paused.
    ///
    /// # Errors
    ///
    /// `Closed` in a forked child.
    pub fn is_paused(&self) -> Result<bool, Error> {
        self.call("is_paused", rocketmq_thin::PushConsumer::is_paused)
    }

    /// Whether a close has begun. `true` in a forked child.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.get().is_none_or(rocketmq_thin::PushConsumer::is_closed)
    }

    /// Closes the consumer in the background, because the application has dropped it. Never blocks, and does
    /// nothing in a forked child.
    pub fn abandon(&self) {
        let consumer = self.clone();
        if let Some(value) = consumer.get().cloned() {
            self.process().close_in_background(async move {
                value.close(CLOSE_DEADLINE).await;
                drop(consumer);
            });
        }
    }

    /// As [`abandon`](Self::abandon), with a warning if no close has begun. A program that only waits for messages
    /// may not notice otherwise that it gets none.
    pub fn abandon_unexpectedly(&self) {
        if let Some(consumer) = self.get().filter(|consumer| !consumer.is_closed()) {
            tracing::warn!(
                ?consumer,
                "a push consumer is closed, because the program has dropped it and its client"
            );
        }
        self.abandon();
    }

    /// Closes the consumer within the deadline. The outcome is [`Outcome::Closed`].
    pub fn close(&self, deadline: Duration) -> Operation {
        self.operation("close", |consumer| async move { Ok(Outcome::Closed(consumer.close(deadline).await)) })
    }
}

impl Task {
    /// Waits until the message is settled, after [`complete`](Self::complete): [`Outcome::Done`]. To be called before.
    pub fn settled(&mut self) -> Operation {
        let process = self.process();
        let settled = self.get_mut().map(rocketmq_thin::Task::settled);
        Operation::new(SETTLE, process, async move {
            settled.ok_or_else(|| forked_error(SETTLE))?.await.map(|()| Outcome::Done)
        })
    }

    /// Reports how the message was handled. Never blocks, and does nothing in a forked child.
    pub fn complete(self, result: ConsumeResult) {
        self.consume(|task| task.complete(result));
    }

    /// Returns the message to its consumer, because no handler has seen it. The consumer hands it out next, and
    /// the attempt does not count; a closed consumer gives it back to the server. Never blocks, and does nothing
    /// in a forked child.
    pub fn put_back(self) {
        self.consume(rocketmq_thin::Task::put_back);
    }
}
