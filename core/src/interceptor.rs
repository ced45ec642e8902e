//! Hooks of the application that run before and after every send, receive and settlement.

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

/// Hooks that are called before and after every send, receive and settlement of a client. Set with
/// [`ClientOptions::interceptor`](crate::ClientOptions::interceptor).
///
/// Every hook does nothing by default. The client calls the hooks while it runs the operation, so they must return
/// quickly and must not block. A panic in a hook does not affect the operation; it is logged as a warning.
///
/// Several interceptors are called in order before an operation, and in reverse order after it.
///
/// ```
/// use std::sync::Arc;
///
/// use rocketmq_thin::{ClientOptions, Interceptor, Message};
///
/// /// Adds the current trace to each message.
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
    /// Called before a message is checked and sent, in the task that calls `send`. May change the message, for instance
    /// add a property.
    fn before_send(&self, message: &mut Message) {}

    /// Called with the result of a send, after all attempts, in a task of the client. May not be called for a message
    /// that was abandoned by a close or a cancelled send.
    fn after_send(&self, message: &Message, result: Result<&Receipt, &Error>) {}

    /// Called before a request for messages is sent. One receive of the application may send several requests, or none.
    fn before_receive(&self, receive: &ReceiveInfo<'_>) {}

    /// Called with the result of a request for messages, before the application gets the deliveries. The body of a delivery
    /// may still be compressed, if the bodies of the response are very large in total; see
    /// [`DecodeOptions`](crate::DecodeOptions::max_body_size).
    fn after_receive(&self, receive: &ReceiveInfo<'_>, result: Result<&[Delivery], &Error>) {}

    /// Called before a delivery is settled, or its invisible time is changed.
    fn before_settle(&self, settle: &SettleInfo<'_>) {}

    /// Called with the result of a settlement, after all attempts.
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
    /// The maximum number of messages in the response.
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
    /// How the delivery is settled.
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

/// How a delivery is settled, or its lease changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settlement {
    /// The delivery is acknowledged.
    Ack,
    /// The delivery has failed, and is delivered again after this time.
    Retry(Duration),
    /// The application changes how long the delivery stays hidden from other consumers, counted from now.
    ChangeInvisible(Duration),
    /// The message moves to the dead-letter topic.
    DeadLetter,
    /// The client extends the lease to this long from now. The delivery is not settled.
    Renewal(Duration),
    /// The client returns the delivery, which the application has not seen. It is delivered again after this time.
    GiveBack(Duration),
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
            catch_panic("before_send", || interceptor.before_send(message));
        }
    }

    pub(crate) fn after_send(self, message: &Message, result: Result<&Receipt, &Error>) {
        for interceptor in self.0.iter().rev() {
            catch_panic("after_send", || interceptor.after_send(message, result));
        }
    }

    pub(crate) fn before_receive(self, receive: &ReceiveInfo<'_>) {
        for interceptor in self.0 {
            catch_panic("before_receive", || interceptor.before_receive(receive));
        }
    }

    pub(crate) fn after_receive(self, receive: &ReceiveInfo<'_>, result: Result<&[Delivery], &Error>) {
        for interceptor in self.0.iter().rev() {
            catch_panic("after_receive", || interceptor.after_receive(receive, result));
        }
    }

    pub(crate) fn before_settle(self, settle: &SettleInfo<'_>) {
        for interceptor in self.0 {
            catch_panic("before_settle", || interceptor.before_settle(settle));
        }
    }

    pub(crate) fn after_settle(self, settle: &SettleInfo<'_>, result: Result<(), &Error>) {
        for interceptor in self.0.iter().rev() {
            catch_panic("after_settle", || interceptor.after_settle(settle, result));
        }
    }
}

/// Calls a hook, and logs its panic.
fn catch_panic(hook: &'static str, call: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(call)).is_err() {
        tracing::warn!(hook, "an interceptor panicked; the operation continues");
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
