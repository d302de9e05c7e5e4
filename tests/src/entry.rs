//! What comes from outside, handed to the code that reads it first, with everything that must hold of the
//! outcome. Fuzzers (`fuzz/`) and `tests/tests/fuzz_seeds.rs` call the same functions.

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use flatnet_core::cni::conf::Base;
use flatnet_core::cni::env::{Asked, Command, Target};
use flatnet_core::cni::error::CniError;
use flatnet_core::cni::{check, result};
use flatnet_core::link::AttachmentIds;
use flatnet_node_state::{PoolError, Request, StateDir};
use ipnetwork::IpNetwork;
use serde_json::json;

/// The variables of one request, in the order of a seed's lines.
const VARIABLES: [&str; 6] =
    ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH"];

/// An error that a runtime can use: a listed code, and words.
fn judge(e: &CniError) {
    assert!(matches!(e.code.number(), 1..=7 | 11 | 100..), "{e:?}");
    assert!(!e.msg.is_empty(), "{e:?}");
}

/// A network configuration, as on stdin.
///
/// # Panics
/// Something does not hold.
pub fn stdin(bytes: &[u8]) {
    drop(check::problems(bytes));
    let spoken = Base::version_of(bytes);
    let base = match Base::read(bytes) {
        Ok(base) => base,
        Err(e) => {
            judge(&e);
            assert_eq!(e.to_json(spoken)["cniVersion"], spoken.as_str());
            return;
        }
    };
    assert_eq!(base.version, spoken);
    assert!(base.state_dir.is_absolute());
    assert_eq!(Base::read(&base.to_bytes()).expect("what was read once is read again"), base);
    match base.add_conf() {
        Err(e) => judge(&e),
        Ok(conf) => {
            let networks = [&conf.subnets, &conf.cluster_networks].into_iter().flatten().flatten();
            for network in networks {
                assert_eq!(network.ip(), network.network(), "host bits in {network}");
            }
            assert!(conf.sysctls.keys().all(|key| !key.contains("..")), "{:?}", conf.sysctls);
        }
    }
    base.valid_attachments().map_err(|e| judge(&e)).ok();
    base.ipam().map_err(|e| judge(&e)).ok();
    if let Ok(Some(before)) = base.prev_result().inspect_err(judge) {
        drop(result::promise(before, "eth0"));
        let _ = result::has_pod_interface(before, "eth0");
        drop(result::append(before, json!({ "cniVersion": "1.1.0", "interfaces": [], "ips": [] })));
    }
}

/// An environment, one variable a line.
///
/// # Panics
/// Something does not hold.
pub fn environment(bytes: &[u8]) {
    let lines = bytes.split(|b| *b == b'\n').map(|line| OsString::from_vec(line.to_vec()));
    let all: HashMap<&str, OsString> = VARIABLES.into_iter().zip(lines).collect();
    let env = |name: &str| all.get(name).cloned();
    Command::read(&env).map_err(|e| judge(&e)).ok();
    Asked::read(&env).map_err(|e| judge(&e)).ok();
    match Target::read(&env) {
        Err(e) => judge(&e),
        Ok(target) => {
            let (id, ifname) = (target.container.as_str(), target.ifname.as_str());
            assert!(id.starts_with(|c: char| c.is_ascii_alphanumeric()), "{id:?}");
            assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)), "{id:?}");
            assert!((1..=15).contains(&ifname.len()) && !matches!(ifname, "." | ".."), "{ifname:?}");
            assert!(!ifname.contains(|c: char| c == '/' || c == ':' || c.is_whitespace()), "{ifname:?}");
            let host_if = AttachmentIds::of(&target.container, &target.ifname).host_if;
            assert!(host_if.as_str().starts_with("fn") && host_if.as_str().len() <= 15, "{host_if}");
        }
    }
}

/// A file of the state directory: the first byte says which one (`r`ecord, node `s`napshot, `p`ool), the
/// rest is its content.
///
/// # Panics
/// Something does not hold.
pub fn state_file(bytes: &[u8]) {
    let Some((kind, content)) = bytes.split_first() else { return };
    let dir = tempfile::tempdir().expect("make a directory");
    let state = StateDir::new(dir.path());
    let write = |name: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).expect("make a directory");
        std::fs::write(path, content).expect("write");
    };
    match kind {
        b'r' => {
            write("attachments/fng57f3dxs4cypo.json");
            record(&state);
        }
        b's' => {
            write("node.json");
            if let Ok(Some(snapshot)) = state.snapshot() {
                state.write_snapshot(&snapshot).expect("write it again");
                assert_eq!(state.snapshot().expect("read it again"), Some(snapshot));
            }
            state.remove_snapshot().expect("remove it");
        }
        b'p' => {
            write("addresses/10.22.0.0-29");
            pool(&state);
        }
        _ => {}
    }
}

fn record(state: &StateDir) {
    let (attachments, host_if) = (state.attachments(), "fng57f3dxs4cypo".parse().expect("a name"));
    let listed = attachments.list().expect("list");
    match attachments.get(&host_if) {
        Ok(Some(record)) => {
            assert_eq!(listed.0, std::slice::from_ref(&record));
            attachments.put(&record).expect("write it again");
            assert_eq!(attachments.get(&host_if).expect("read it again"), Some(record));
            attachments.remove(&host_if).expect("remove it");
        }
        Ok(None) => panic!("the record is there"),
        Err(e) => {
            assert!(e.to_string().contains("damaged") && listed.1.len() == 1, "{e}");
            attachments.set_aside(&host_if).expect("set it aside");
        }
    }
    assert_eq!(attachments.get(&host_if).expect("read"), None);
}

fn pool(state: &StateDir) {
    let (pool, network) = (state.addresses(), "10.22.0.0/29".parse::<IpNetwork>().expect("a network"));
    let free = |_: IpAddr| false;
    let mut taken: Vec<IpAddr> = Vec::new();
    pool.has_room(network).expect("a pool that can be used, or is made anew");
    for owner in 1..=8 {
        match pool.take(network, Request { owner, wanted: None, cooldown: 30, in_use: &free }) {
            Ok(ip) => {
                assert!(network.contains(ip) && !taken.contains(&ip), "{ip} after {taken:?}");
                taken.push(ip);
            }
            Err(PoolError::Exhausted { .. }) => {}
            Err(e) => panic!("{e}"),
        }
    }
    assert!(taken.len() <= 6, "{taken:?}");
    for owner in 1..=8 {
        assert!(pool.release(owner, &[]).is_empty());
    }
}
