//! Code of the application around every send, receive and settlement.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use crate::{
    error::{Error, Result},
    message::{Delivery, LeasedMessage, Message, Receipt},
};

/// Is told before and after every send, receive and settlement of a client. Set with
/// [`ClientOptions::interceptor`](crate::ClientOptions::interceptor).
///
/// Every function has a default that does nothing. They run on the client's own path, so they must be quick and must
/// not block. One that panics does not disturb the operation: the panic is logged as a warning.
///
/// Of several interceptors, the first is told first before an operation, and last after it.
///
/// ```
/// use std::sync::Arc;
///
/// use rocketmq_thin::{ClientOptions, Interceptor, Message};
///
/// /// Hands the trace on to whoever receives the message.
/// struct Tracing;
///
/// impl Interceptor for Tracing {
///     fn before_send(&self, message: &mut Message) {
///         # fn current_trace_parent() -> String { String::new() }
///         message.properties.push(("traceparent".to_owned(), current_trace_parent()));
///     }
/// }
///
/// let options = ClientOptions::new("127.0.0.1:8081").interceptor(Arc::new(Tracing));
/// ```
#[allow(unused_variables, reason = "the names document the parameters")]
pub trait Interceptor: Send + Sync {
    /// A message is about to be checked and sent. It runs in the task that sends, and may change the message, for
    /// instance add a property.
    fn before_send(&self, message: &mut Message) {}

    /// A message has its result, after all attempts. It runs in a task of the client. A message that was abandoned, by
    /// a close or a cancelled send, may have none.
    fn after_send(&self, message: &Message, result: Result<&Receipt, &Error>) {}

    /// A request for messages is about to be sent. One call of the application may cause several, or none.
    fn before_receive(&self, receive: &ReceiveInfo<'_>) {}

    /// A request for messages was answered. The application gets the deliveries after this, or later.
    fn after_receive(&self, receive: &ReceiveInfo<'_>, result: Result<&[Delivery], &Error>) {}

    /// A delivery is about to be settled, or to stay hidden for longer.
    fn before_settle(&self, settle: &SettleInfo<'_>) {}

    /// A settlement has its result, after all attempts.
    fn after_settle(&self, settle: &SettleInfo<'_>, result: Result<(), &Error>) {}
}

impl fmt::Debug for dyn Interceptor + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interceptor")
    }
}

/// A request for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceiveInfo<'a> {
    /// The consumer group.
    pub group: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// The most messages that the answer may bring.
    pub max_messages: u32,
}

/// The settlement of one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SettleInfo<'a> {
    /// The consumer group.
    pub group: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// The id of the message.
    pub message_id: &'a str,
    /// What is done with it.
    pub settlement: Settlement,
}

impl<'a> SettleInfo<'a> {
    pub(crate) fn new(message: &'a LeasedMessage, settlement: Settlement) -> Self {
        Self {
            group: &message.group.name,
            topic: &message.topic,
            message_id: &message.message_id,
            settlement,
        }
    }
}

/// What is done with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settlement {
    /// It is acknowledged.
    Ack,
    /// It stays hidden for this long from now. Zero gives it back.
    ChangeInvisible(Duration),
    /// It becomes a dead letter.
    DeadLetter,
}

/// All interceptors of a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interceptors<'a>(pub(crate) &'a [Arc<dyn Interceptor>]);

impl Interceptors<'_> {
    pub(crate) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn before_send(self, message: &mut Message) {
        for interceptor in self.0 {
            guard("before_send", || interceptor.before_send(message));
        }
    }

    pub(crate) fn after_send(self, message: &Message, result: Result<&Receipt, &Error>) {
        for interceptor in self.0.iter().rev() {
            guard("after_send", || interceptor.after_send(message, result));
        }
    }

    pub(crate) fn before_receive(self, receive: &ReceiveInfo<'_>) {
        for interceptor in self.0 {
            guard("before_receive", || interceptor.before_receive(receive));
        }
    }

    pub(crate) fn after_receive(self, receive: &ReceiveInfo<'_>, result: Result<&[Delivery], &Error>) {
        for interceptor in self.0.iter().rev() {
            guard("after_receive", || interceptor.after_receive(receive, result));
        }
    }

    pub(crate) fn before_settle(self, settle: &SettleInfo<'_>) {
        for interceptor in self.0 {
            guard("before_settle", || interceptor.before_settle(settle));
        }
    }

    pub(crate) fn after_settle(self, settle: &SettleInfo<'_>, result: Result<(), &Error>) {
        for interceptor in self.0.iter().rev() {
            guard("after_settle", || interceptor.after_settle(settle, result));
        }
    }
}

fn guard(hook: &'static str, call: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(call)).is_err() {
        tracing::warn!(hook, "an interceptor panicked; the operation goes on");
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    struct Named(&'static str, Arc<Mutex<Vec<String>>>);

    impl Interceptor for Named {
        fn before_send(&self, message: &mut Message) {
            message.properties.push((self.0.to_owned(), String::new()));
            self.1.lock().push(format!("before {}", self.0));
            assert_ne!(self.0, "b", "it panics on purpose");
        }

        fn after_send(&self, _: &Message, _: Result<&Receipt, &Error>) {
            self.1.lock().push(format!("after {}", self.0));
        }
    }

    #[test]
    fn a_panic_ends_neither_the_operation_nor_the_other_interceptors() {
        let calls = Arc::new(Mutex::default());
        let all = ["a", "b", "c"].map(|name| Arc::new(Named(name, calls.clone())) as Arc<dyn Interceptor>);
        let mut message = Message::new("t", "x");
        Interceptors(&all).before_send(&mut message);
        Interceptors(&all).after_send(&message, Err(&Error::closed("send")));
        let names: Vec<_> = message.properties.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(*calls.lock(), ["before a", "before b", "before c", "after c", "after b", "after a"]);
    }
}
