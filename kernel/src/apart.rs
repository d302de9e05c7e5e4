//! Requests that wait long, side by side.

use std::io;
use std::panic::resume_unwind;
use std::thread;

use crate::batch::{Answer, Netlink, Request};

/// Requests that wait at the same time: a thread and a socket each.
const AT_ONCE: usize = 16;

/// Sends every request on a socket of its own, the first on `own`. For removals: the kernel waits for
/// grace periods at every one, and one after another those waits add up.
pub(crate) fn side_by_side(own: &mut Netlink, requests: &[Request]) -> Vec<io::Result<Answer>> {
    let mut answers = Vec::with_capacity(requests.len());
    for group in requests.chunks(AT_ONCE) {
        let [first, rest @ ..] = group else { continue };
        thread::scope(|scope| {
            let others: Vec<_> =
                rest.iter().map(|r| scope.spawn(|| Netlink::open()?.request(r.clone()))).collect();
            answers.push(own.request(first.clone()));
            answers.extend(others.into_iter().map(|t| t.join().unwrap_or_else(|panic| resume_unwind(panic))));
        });
    }
    answers
}
