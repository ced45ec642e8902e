//! Returns freed memory to the system. glibc keeps much of it by default, so that a process stays as large as it once was.

/// Allocations of this size and above are mapped, and unmapped when freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_BYTES: i32 = 128 << 10;
/// How often smaller pieces are returned.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const TRIM_INTERVAL: std::time::Duration = std::time::Duration::from_secs(30);

/// To be called once, before memory is used.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(
    unsafe_code,
    reason = "two functions of the C library that take no pointers and may be called at any time"
)]
pub(super) fn return_what_is_freed() {
    // SAFETY: see above.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES) };
    let trim = || loop {
        std::thread::sleep(TRIM_INTERVAL);
        // SAFETY: see above.
        unsafe { libc::malloc_trim(0) };
    };
    if let Err(error) = std::thread::Builder::new().name("trim".to_owned()).spawn(trim) {
        tracing::warn!(%error, "freed memory will not be returned to the system");
    }
}

/// Other allocators return memory by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn return_what_is_freed() {}
