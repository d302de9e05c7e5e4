//! Which attachments are dead. A path proves nothing: runtimes use them again, and inodes' numbers too. A
//! pair that is whole proves life whatever the path says.

use crate::node::Attachment;

/// Seconds for which nothing is taken for dead: long enough for any ADD or DEL that is under way.
pub const DEFAULT_GRACE_SECONDS: u64 = 60;

/// The node's end of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostEnd {
    /// It is there and has another end: a veth's ends die together, so a namespace lives.
    Paired,
    /// It is there without another end: nobody's.
    Alone,
    /// It is not there.
    Gone,
}

/// The moment at which attachments are judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// The running boot (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
    /// Seconds since it.
    pub now: u64,
}

/// What is found of one attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signs {
    /// Its path leads to the very namespace that ADD was given.
    pub namespace: bool,
    /// The node's end of its pair.
    pub host_end: HostEnd,
}

/// Whether nobody uses `attachment` any more, and has not for at least `grace` seconds of its life.
#[must_use]
pub fn is_dead(attachment: &Attachment, signs: Signs, moment: &Moment, grace: u64) -> bool {
    let earlier_boot = attachment.boot.as_ref().is_some_and(|boot| *boot != moment.boot);
    let uninhabited = earlier_boot || !signs.namespace;
    uninhabited && signs.host_end != HostEnd::Paired && age(attachment, earlier_boot, moment.now) >= grace
}

/// Seconds that it has at least existed for.
fn age(attachment: &Attachment, earlier_boot: bool, now: u64) -> u64 {
    if earlier_boot { now } else { now.saturating_sub(attachment.made_at) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::tests::attachment;

    /// Every combination of signs: only what is gone in every way, and for long enough, is dead.
    #[test]
    fn only_what_is_gone_in_every_way_is_dead() {
        for host_end in [HostEnd::Paired, HostEnd::Alone, HostEnd::Gone] {
            for namespace in [true, false] {
                for boot in [None, Some("b1"), Some("b0")] {
                    for made_at in [100, 0] {
                        let mut a = attachment(&["10.22.0.5"]);
                        (a.boot, a.made_at) = (boot.map(str::to_owned), made_at);
                        let moment = Moment { boot: "b1".to_owned(), now: 130 };
                        let earlier = boot == Some("b0");
                        let old = earlier || made_at == 0;
                        let expected = host_end != HostEnd::Paired && (earlier || !namespace) && old;
                        let signs = Signs { namespace, host_end };
                        assert_eq!(is_dead(&a, signs, &moment, 60), expected, "{signs:?} {boot:?} {made_at}");
                    }
                }
            }
        }
    }

    /// Just after a boot nothing is collected, however old its record says it is.
    #[test]
    fn a_fresh_boot_waits_too() {
        let mut a = attachment(&["10.22.0.5"]);
        a.boot = Some("b0".to_owned());
        let signs = Signs { namespace: false, host_end: HostEnd::Gone };
        let at = |now| Moment { boot: "b1".to_owned(), now };
        assert!(!is_dead(&a, signs, &at(59), 60) && is_dead(&a, signs, &at(60), 60));
    }
}
