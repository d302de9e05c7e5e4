//! Descriptors that the loop waits for.
#![expect(unsafe_code, reason = "tokio asks for a promise about the descriptor; made once, here")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use inotify::Inotify;
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

/// Returns once something happened to what is watched, whatever it is. Cancel safe: what was read is a reason to
/// look, and nothing is read without returning.
///
/// # Errors
/// The descriptor is broken.
pub(crate) async fn happened(inotify: &mut AsyncFd<Inotify>) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let mut guard = inotify.readable_mut().await?;
    loop {
        match guard.get_inner_mut().read_events(&mut buffer) {
            Ok(events) => drop(events),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                guard.clear_ready();
                return Ok(());
            }
            Err(e) => return Err(e),
        }
    }
}
