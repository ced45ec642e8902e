//! Limits how many messages a push consumer caches, by number and by size, and shares the room among its polls.

/// The assumed size of a message, in bytes, until the first one arrives.
const INITIAL_EXPECTED_SIZE: usize = 64 * 1024;

/// While messages wait to be handed out, a poll starts only if this part of its share of the cache is free: one eighth.
const MIN_FREE_DIVISOR: usize = 8;

/// The limits of the cache, and how much of it is in use. All polls share it equally.
#[derive(Debug)]
pub(super) struct CacheLimits {
    /// How many messages may be cached.
    max_messages: usize,
    /// How large their bodies may be in total, in bytes.
    max_bytes: usize,
    /// How many messages are cached.
    messages: usize,
    /// The total size of their bodies.
    pub(super) bytes: usize,
    /// A moving average of body sizes, in bytes.
    expected_size: usize,
    /// The number of polls, running or waiting for room.
    polls: usize,
    /// How many messages running polls may return.
    pub(super) reserved: usize,
}

impl CacheLimits {
    pub(super) fn new(max_messages: usize, max_bytes: usize) -> Self {
        let expected_size = INITIAL_EXPECTED_SIZE;
        Self { max_messages, max_bytes, messages: 0, bytes: 0, expected_size, polls: 0, reserved: 0 }
    }

    pub(super) fn add_poll(&mut self) {
        self.polls += 1;
    }

    pub(super) fn remove_poll(&mut self) {
        self.polls -= 1;
    }

    /// How many messages a poll of up to `batch` messages may request now; `None` if it must wait for room. `have_ready`
    /// is whether messages wait to be handed out.
    ///
    /// Each poll gets at most its share of the cache, so that polls of empty queues don't block other polls. Each poll may
    /// always request one message, whatever the limits.
    pub(super) fn fitting(&self, batch: usize, have_ready: bool) -> Option<usize> {
        let polls = self.polls.max(1);
        let most = self.max_messages.max(polls);
        let free = most.saturating_sub(self.messages + self.reserved).min(most.div_ceil(polls));
        let free_bytes = self.max_bytes.saturating_sub(self.bytes);
        let by_size = free_bytes / polls / self.expected_size.max(1);
        let fits = batch.min(free).min(by_size.max(usize::from(free_bytes > 0)));
        // Requesting each message as soon as there is room for it would take many requests.
        let least = if have_ready { batch.min(most / polls / MIN_FREE_DIVISOR).max(1) } else { 1 };
        (fits >= least).then_some(fits)
    }

    /// Reserves room for the messages that a poll requests.
    pub(super) fn reserve(&mut self, messages: usize) {
        self.reserved += messages;
    }

    /// Releases the reservation of a poll that has ended.
    pub(super) fn release(&mut self, reserved: usize) {
        self.reserved -= reserved;
    }

    /// Counts a message with a body of `size` bytes.
    pub(super) fn add(&mut self, size: usize) {
        self.messages += 1;
        self.bytes += size;
        self.expected_size = (self.expected_size * 7 + size) / 8;
    }

    /// Counts a message no more.
    pub(super) fn remove(&mut self, size: usize) {
        self.messages -= 1;
        self.bytes -= size;
    }
}
