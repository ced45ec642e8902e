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
    /// Whether it has sent a request to which other clients reply.
    pub(super) awaits_replies: bool,
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
            session.classic.awaits_replies = before.classic.awaits_replies;
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

    /// Notes that a client waits for replies.
    pub(super) fn awaits_replies(&self, context: &Context) {
        let mut sessions = self.sessions.lock();
        if let Some(session) = sessions.get_mut(&context.client_id, &context.host())
            && !std::mem::replace(&mut session.classic.awaits_replies, true)
        {
            self.producers_changed.send_replace(());
        }
    }

    /// The ids of the clients that wait for replies.
    pub(super) fn awaiting_replies(&self) -> BTreeSet<String> {
        let sessions = self.sessions.lock();
        let waiting = sessions.iter().filter(|(_, session)| session.classic.awaits_replies);
        waiting.map(|(client_id, _)| client_id.to_owned()).collect()
    }

    /// The ways to a client that waits for replies.
    pub(super) fn awaiting_replies_as(&self, client_id: &str) -> Vec<PushStream> {
        let sessions = self.sessions.lock();
        let waiting =
            sessions.iter().filter(|(id, session)| *id == client_id && session.classic.awaits_replies);
        waiting.filter_map(|(_, session)| session.stream.clone()).collect()
    }

    /// Whether producers are here that don't name their topics, but their groups.
    pub(super) fn has_producer_groups(&self) -> bool {
        self.sessions.lock().iter().any(|(_, session)| !session.classic.producers.is_empty())
    }
}
