//! Settings of the real kernel.

use std::sync::{Barrier, Mutex};
use std::thread;

use flatnet_kernel::sysctl;
use netns_fixtures::{NetNs, gate};

const WRITERS: usize = 16;
const ROUNDS: usize = 2000;

/// The kernel's own race: without a second look a node stays with forwarding on for all links and for none.
#[test]
fn forwarding_switched_on_by_many_at_once_is_on_for_each_link() {
    gate::require();
    let ns = NetNs::new().unwrap();
    let barrier = Barrier::new(WRITERS);
    let wrong = Mutex::new(Vec::new());
    let rounds = |first: bool| {
        for round in 0..ROUNDS {
            if first {
                sysctl::write("net/ipv4/ip_forward", "0").unwrap();
            }
            barrier.wait();
            sysctl::write("net/ipv4/ip_forward", "1").unwrap();
            barrier.wait();
            for link in ["all", "default", "lo"] {
                let is_on = sysctl::read(&format!("net/ipv4/conf/{link}/forwarding")).unwrap() == "1";
                if first && !is_on {
                    wrong.lock().unwrap().push(format!("{link} in round {round}"));
                }
            }
            barrier.wait();
        }
    };
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (ns, rounds) = (&ns, &rounds);
            scope.spawn(move || ns.run(|| rounds(writer == 0)).unwrap());
        }
    });
    assert_eq!(wrong.into_inner().unwrap(), Vec::<String>::new(), "off");
}
