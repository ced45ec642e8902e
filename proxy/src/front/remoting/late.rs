//! Requests that come in when their connection is about to be closed: the proxy drains, or the connection was idle for long.

use std::time::Duration;

use super::dispatch;
use super::request::Refusal;
use crate::remoting::{Command, request, response};

/// The last version of Apache's client that does not know GO_AWAY (`MQVersion.V5_3_1`). Later ones open another connection, and
/// ask again.
const WITHOUT_GO_AWAY: i32 = 475;

/// How long such requests are served that can't be sent elsewhere, if they don't end by themselves.
pub(super) const SERVED_FOR: Duration = Duration::from_secs(5);
/// How long nothing must come in, and nothing be under way, before the connection is closed.
pub(super) const QUIET: Duration = Duration::from_secs(1);

/// What becomes of such a request.
pub(super) enum Late {
    /// It is served.
    Serve(Command),
    /// It is not carried out, and answered with this.
    Answer(Command),
    /// It is not answered: it waits for messages, of which there will be none. Its client asks another proxy as soon as the
    /// connection is closed.
    Leave,
}

impl Late {
    pub(super) fn of(request: Command) -> Self {
        let knows_go_away = request.version > WITHOUT_GO_AWAY;
        match dispatch::refusal(&request, || Refusal::new(response::GO_AWAY, "please go away")) {
            // Nobody would send a one-way request again.
            None => Self::Serve(request),
            Some(answer) if knows_go_away => Self::Answer(answer),
            Some(_) if waits(request.code) => Self::Leave,
            Some(_) => Self::Serve(request),
        }
    }
}

fn waits(code: i32) -> bool {
    matches!(
        code,
        request::PULL_MESSAGE | request::LITE_PULL_MESSAGE | request::POP_MESSAGE | request::NOTIFICATION
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_knows_go_away_is_sent_elsewhere() {
        let late = |code, version| Late::of(Command { version, ..Command::request(code) });
        let sends = (request::SEND_MESSAGE_V2, request::HEART_BEAT);
        for code in [sends.0, sends.1, request::PULL_MESSAGE] {
            let Late::Answer(answer) = late(code, 477) else { panic!("{code} is answered") };
            assert_eq!(answer.code, response::GO_AWAY);
        }
        for code in [sends.0, sends.1] {
            assert!(matches!(late(code, WITHOUT_GO_AWAY), Late::Serve(_)), "{code}");
        }
        assert!(matches!(late(request::PULL_MESSAGE, WITHOUT_GO_AWAY), Late::Leave));
        let one_way = Command { version: 513, ..Command::request(request::END_TRANSACTION) }.one_way();
        assert!(matches!(Late::of(one_way), Late::Serve(_)));
    }
}
