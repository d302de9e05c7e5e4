//! Being told to stop.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Knows whether somebody asked to stop. Clones know the same.
#[derive(Debug, Clone)]
pub(crate) struct Shutdown(watch::Receiver<bool>);

/// Asks to stop: everyone who holds a [`Shutdown`] of it hears.
#[derive(Debug)]
pub(crate) struct Trigger(watch::Sender<bool>);

/// A way to ask, and a way to hear.
pub(crate) fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    pub(crate) fn pull(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Returns once somebody has asked, or can no longer ask. Cancel safe.
    pub(crate) async fn requested(&mut self) {
        // An error means that the trigger is gone: nobody is left to work for.
        let _ = self.0.wait_for(|asked| *asked).await;
    }
}

/// Returns the name of the first signal that means "stop".
///
/// # Errors
/// Signals cannot be received.
pub(crate) async fn signalled() -> io::Result<&'static str> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        // Cancel safe, both: a signal not taken here ends the process by the other arm's return.
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    })
}
