//! The priority of requests under overload.

use crate::layer::OperationKind;

/// The priority of a request while the proxy is overloaded or a quota is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Priority {
    /// New work, which is refused first. Clients can repeat it later.
    New,
    /// Requests that finish or retain work in progress. Refusing them would cause redeliveries, and thus more work.
    Settling,
    /// Requests that keep a session alive or end it. They are never refused.
    Session,
}

impl Priority {
    /// The priority of a kind of request.
    pub(super) fn of(kind: OperationKind) -> Self {
        match kind {
            OperationKind::QueryRoute
            | OperationKind::QueryAssignment
            | OperationKind::Send
            | OperationKind::Receive
            | OperationKind::Pull
            | OperationKind::GetOffset
            | OperationKind::QueryOffset => Self::New,
            OperationKind::Acknowledge
            | OperationKind::ChangeInvisible
            | OperationKind::ForwardToDeadLetter
            | OperationKind::SendBack
            | OperationKind::EndTransaction
            | OperationKind::Recall
            | OperationKind::UpdateOffset
            // Consumers repeat these two to retain their locks and subscriptions.
            | OperationKind::LockQueues
            | OperationKind::SyncLite
            | OperationKind::UnlockQueues
            | OperationKind::Register => Self::Settling,
            OperationKind::Heartbeat | OperationKind::Terminate => Self::Session,
        }
    }
}
