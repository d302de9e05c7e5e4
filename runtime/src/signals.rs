//! What a process is started with: signals as the kernel has them at first, as far as they have names.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};

/// Does it with no signal ignored or blocked, so that what is cloned meanwhile inherits that, and nothing that we have
/// been given ourselves: a shell has its background jobs ignore SIGINT, and programs in Rust ignore SIGPIPE.
#[expect(unsafe_code, reason = "signal dispositions have no safe wrapper")]
pub(crate) fn as_at_first<T>(work: impl FnOnce() -> T) -> T {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    let reset = |signal| {
        // SAFETY: no handler is installed. It fails for those that cannot be changed, and they need not be.
        unsafe { sigaction(signal, &default) }.ok().map(|before| (signal, before))
    };
    let before: Vec<_> = Signal::iterator().filter_map(reset).collect();
    let mut blocked = SigSet::empty();
    // Both fail for a wrong first argument only.
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), Some(&mut blocked));
    let done = work();
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&blocked), None);
    for (signal, before) in before {
        // SAFETY: what was there before is as good as it was then.
        let _ = unsafe { sigaction(signal, &before) };
    }
    done
}
