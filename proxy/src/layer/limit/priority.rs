use crate::layer::OperationKind;

/// What goes on for how long while the proxy is overloaded, or a quota is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Priority {
    /// New work. It is refused first, and can be done later.
    New,
    /// What ends or keeps work that was begun. To refuse it would cause redeliveries, and thus more work.
    Settling,
    /// What keeps a session alive or ends it. It is never refused.
    Session,
}

impl Priority {
    /// The priority of each operation.
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
            // Consumers repeat these two to keep what they have.
            | OperationKind::LockQueues
            | OperationKind::SyncLite
            | OperationKind::UnlockQueues
            | OperationKind::Register => Self::Settling,
            OperationKind::Heartbeat | OperationKind::Terminate => Self::Session,
        }
    }
}
