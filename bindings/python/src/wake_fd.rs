//! A file descriptor that wakes an event loop: the loop watches it, and any thread can make it readable.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// An eventfd, or a socket pair on systems without it.
pub(crate) struct WakeFd {
    read: OwnedFd,
    #[cfg(not(target_os = "linux"))]
    write: OwnedFd,
}

impl WakeFd {
    #[cfg(target_os = "linux")]
    pub(crate) fn new() -> io::Result<Self> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(Self { read: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)? })
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn new() -> io::Result<Self> {
        let (read, write) = std::os::unix::net::UnixStream::pair()?;
        read.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        Ok(Self { read: read.into(), write: write.into() })
    }

    /// Makes the descriptor readable. The write fails only if it is already readable.
    pub(crate) fn set(&self) {
        #[cfg(target_os = "linux")]
        let end = &self.read;
        #[cfg(not(target_os = "linux"))]
        let end = &self.write;
        let _ = rustix::io::write(end, &1_u64.to_ne_bytes());
    }

    /// Makes the descriptor unreadable. The read fails only if it is already unreadable.
    pub(crate) fn clear(&self) {
        let _ = rustix::io::read(&self.read, &mut [0; 512]);
    }
}

impl AsRawFd for WakeFd {
    fn as_raw_fd(&self) -> RawFd {
        self.read.as_raw_fd()
    }
}
