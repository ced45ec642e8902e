//! Returns freed memory to the system. By default glibc retains much of it, and the process would stay at its peak size.

/// Allocations of at least this size in bytes are mapped, so that freeing them returns them to the system.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_BYTES: i32 = 128 << 10;
/// How often freed smaller allocations are returned.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const TRIM_INTERVAL: std::time::Duration = std::time::Duration::from_secs(30);

/// Configures the allocator and starts a thread that returns freed memory. Call this once at the start.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(
    unsafe_code,
    reason = "two functions of the C library that take no pointers and may be called at any time"
)]
pub(super) fn return_freed_memory() {
    // SAFETY: see above.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES) };
    let trim = || loop {
        std::thread::sleep(TRIM_INTERVAL);
        // SAFETY: see above.
        unsafe { libc::malloc_trim(0) };
    };
    if let Err(error) = std::thread::Builder::new().name("trim".to_owned()).spawn(trim) {
        tracing::warn!(%error, "failed to start the thread that returns freed memory to the system");
    }
}

/// Other allocators return memory by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn return_freed_memory() {}
