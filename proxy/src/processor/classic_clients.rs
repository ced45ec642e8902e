//! Sessions of clients of the remoting protocol, in the table of [`super::clients`]. Such a session ends with its
//! connection.

use std::collections::BTreeSet;

use super::classic_groups::ClassicGroups;
use super::client_kind::ClientKind;
use super::clients::{ClientSession, Clients};
use super::stream::PushStream;
use crate::context::Context;
use crate::error::Error;

/// The heartbeat of a client of the remoting protocol.
pub(super) struct ClassicClient<'a> {
    /// The stream on which the client gets commands.
    pub(super) stream: &'a PushStream,
    pub(super) groups: ClassicGroups,
    /// The topics to which the client subscribes.
    pub(super) topics: BTreeSet<&'a str>,
    /// The approximate number of bytes that are kept for the client elsewhere.
    pub(super) bytes: usize,
}

impl Clients {
    /// Begins or continues the session of a client of the remoting protocol.
    ///
    /// # Errors
    /// As [`ClientSession::new`], and `Busy` if there are too many clients.
    pub(super) fn record_classic_heartbeat(
        &self,
        context: &Context,
        client: ClassicClient<'_>,
    ) -> Result<(), Error> {
        let ClassicClient { stream, groups, topics, bytes } = client;
        let mut session = ClientSession::new(context, ClientKind::Classic, stream)?;
        session.bytes += bytes;
        session.classic = groups;
        session.subscribe_to(topics.into_iter());
        if let Some(before) = self.sessions.lock().get_mut(&context.client_id, &context.host())
            && before.stream.as_ref().is_some_and(|before| before.is_same(stream))
        {
            session.since = before.since;
            session.classic.awaits_replies = before.classic.awaits_replies;
            for topic in &before.topics {
                session.publish_to(topic)?;
            }
        }
        self.insert(context, session)
    }

    /// Ends the session of a client that had this stream, unless the client has opened another one. Returns whether it has
    /// ended.
    pub(super) fn end_session(&self, context: &Context, stream: &PushStream) -> bool {
        let host = context.host();
        let mut sessions = self.sessions.lock();
        let session = sessions.get_mut(&context.client_id, &host);
        let has_stream =
            session.is_some_and(|session| session.stream.as_ref().is_some_and(|now| now.is_same(stream)));
        if has_stream {
            sessions.remove(&context.client_id, &host);
            self.producers_changed.send_replace(());
        }
        has_stream
    }

    /// Records that a client waits for replies.
    pub(super) fn record_requester(&self, context: &Context) {
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

    /// The streams of the clients with this id that wait for replies.
    pub(super) fn requester_streams(&self, client_id: &str) -> Vec<PushStream> {
        let sessions = self.sessions.lock();
        let waiting =
            sessions.iter().filter(|(id, session)| *id == client_id && session.classic.awaits_replies);
        waiting.filter_map(|(_, session)| session.stream.clone()).collect()
    }

    /// Whether there are classic producers, which name their groups instead of their topics.
    pub(super) fn has_producer_groups(&self) -> bool {
        self.sessions.lock().iter().any(|(_, session)| !session.classic.producers.is_empty())
    }
}
