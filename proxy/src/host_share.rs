//! Shares of hosts in limits that all clients have in common. A host may use what is left, but the last part of a limit is
//! for hosts that use less than their share, so that one host can't use up the limit for all others.

/// One part in this number of each limit is for hosts that use less than their share.
const RESERVED_PART: usize = 8;
/// A host's share is one part in this number of each limit.
const HOST_PART: usize = 4;

/// The share of a host in a limit.
pub(crate) fn share(limit: usize) -> usize {
    limit / HOST_PART
}

/// Whether a host that would use `of_host` of a limit, of which `total` would be used, exceeds its share while the limit is
/// nearly reached.
pub(crate) fn exceeds_share(total: usize, of_host: usize, limit: usize) -> bool {
    total > limit - limit / RESERVED_PART && of_host > share(limit)
}
