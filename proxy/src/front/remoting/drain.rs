//! Decides about requests that arrive when their connection is about to be closed: because the proxy drains, or because
//! the connection was idle for too long.

use std::time::Duration;

use super::answer::Refusal;
use super::dispatch;
use crate::remoting::{RemotingCommand, request, response};

/// The last version of Apache's client that does not know GO_AWAY (`MQVersion.V5_3_1`). Later versions open another
/// connection, and repeat the request there.
const LAST_WITHOUT_GO_AWAY: i32 = 475;

/// The longest time for which requests of older clients are served while their connection is about to be closed.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection must be idle before it is closed: no bytes arrive, and no request is in flight.
pub(super) const IDLE_BEFORE_CLOSE: Duration = Duration::from_secs(1);

/// What to do with a request that arrives when its connection is about to be closed.
pub(super) enum DrainAction {
    /// Serve it.
    Serve(RemotingCommand),
    /// Do not carry it out, but send this answer.
    Refuse(RemotingCommand),
    /// Send no answer. The request waits for messages, and will not get any. Its client sends it to another proxy as
    /// soon as the connection is closed.
    Ignore,
}

impl DrainAction {
    pub(super) fn for_request(request: RemotingCommand) -> Self {
        let knows_go_away = request.version > LAST_WITHOUT_GO_AWAY;
        match dispatch::refuse(&request, || Refusal::new(response::GO_AWAY, "please go away")) {
            // Clients do not repeat a one-way request.
            None => Self::Serve(request),
            Some(answer) if knows_go_away => Self::Refuse(answer),
            Some(_) if is_long_poll(request.code) => Self::Ignore,
            Some(_) => Self::Serve(request),
        }
    }
}

fn is_long_poll(code: i32) -> bool {
    matches!(
        code,
        request::PULL_MESSAGE | request::LITE_PULL_MESSAGE | request::POP_MESSAGE | request::NOTIFICATION
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_know_go_away_get_it() {
        let action = |code, version| {
            DrainAction::for_request(RemotingCommand { version, ..RemotingCommand::request(code) })
        };
        let sends = (request::SEND_MESSAGE_V2, request::HEART_BEAT);
        for code in [sends.0, sends.1, request::PULL_MESSAGE] {
            let DrainAction::Refuse(answer) = action(code, 477) else { panic!("{code} is not refused") };
            assert_eq!(answer.code, response::GO_AWAY);
        }
        for code in [sends.0, sends.1] {
            assert!(matches!(action(code, LAST_WITHOUT_GO_AWAY), DrainAction::Serve(_)), "{code}");
        }
        assert!(matches!(action(request::PULL_MESSAGE, LAST_WITHOUT_GO_AWAY), DrainAction::Ignore));
        let one_way =
            RemotingCommand { version: 513, ..RemotingCommand::request(request::END_TRANSACTION) }.one_way();
        assert!(matches!(DrainAction::for_request(one_way), DrainAction::Serve(_)));
    }
}
