//! Descriptors that the loop waits for.
#![expect(unsafe_code, reason = "tokio asks for a promise about the descriptor; made once, here")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits for `inner` to become readable. Call it inside the runtime.
///
/// # Errors
/// It cannot be waited for.
pub(crate) fn readable<T: AsFd + AsRawFd + 'static>(inner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: `T: AsFd + 'static` holds an open descriptor for as long as it lives and shows that one in
    // both ways; `AsyncFd` owns it.
    Ok(unsafe { AsyncFd::register_with_interest(inner, Interest::READABLE) }?)
}
