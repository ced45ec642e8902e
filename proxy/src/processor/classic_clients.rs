//! Sessions of clients of the remoting protocol, among those of [`super::clients`]. A session ends with its connection.

use std::collections::BTreeSet;

use super::ClientKind;
use super::clients::{Clients, Session};
use super::stream::PushStream;
use crate::context::Context;
use crate::error::Error;

/// The groups of a client of the remoting protocol.
#[derive(Clone, Debug, Default)]
pub(super) struct ClassicGroups {
    pub(super) producers: BTreeSet<String>,
    pub(super) consumers: BTreeSet<String>,
}

/// What a client of the remoting protocol tells.
pub(super) struct ClassicClient<'a> {
    /// How it is reached.
    pub(super) stream: &'a PushStream,
    pub(super) groups: ClassicGroups,
    /// What it subscribes to.
    pub(super) topics: BTreeSet<&'a str>,
    /// Bytes that are kept of it elsewhere.
    pub(super) bytes: usize,
}

impl ClassicGroups {
    /// The consumer groups, for administrators.
    pub(super) fn consumers(&self) -> String {
        self.consumers.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

impl Clients {
    /// Begins the session of a client of the remoting protocol, or goes on with it.
    ///
    /// # Errors
    /// As [`Session::new`], and `Busy` if too many clients are there already.
    pub(super) fn heard_classic(&self, context: &Context, client: ClassicClient<'_>) -> Result<(), Error> {
        let ClassicClient { stream, groups, topics, bytes } = client;
        let mut session = Session::new(context, ClientKind::Classic, stream)?;
        session.bytes += bytes;
        session.classic = groups;
        session.subscribe_to(topics.into_iter());
        if let Some(before) = self.sessions.lock().get_mut(&context.client_id, &context.host())
            && before.stream.as_ref().is_some_and(|before| before.same(stream))
        {
            session.since = before.since;
            for topic in &before.topics {
                session.publish_to(topic)?;
            }
        }
        self.insert(context, session)
    }

    /// Ends the session of a client whose connection is gone, unless it has another one by now.
    pub(super) fn gone(&self, context: &Context, stream: &PushStream) {
        let host = context.host();
        let mut sessions = self.sessions.lock();
        let session = sessions.get_mut(&context.client_id, &host);
        if session.is_some_and(|session| session.stream.as_ref().is_some_and(|now| now.same(stream))) {
            sessions.remove(&context.client_id, &host);
            self.producers_changed.send_replace(());
        }
    }

    /// Whether producers are here that don't name their topics, but their groups.
    pub(super) fn has_producer_groups(&self) -> bool {
        self.sessions.lock().iter().any(|(_, session)| !session.classic.producers.is_empty())
    }
}
