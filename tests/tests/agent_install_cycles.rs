//! A thousand installs, take-overs, upgrades, downgrades and uninstalls while plugins are executed all the
//! time, as a runtime does: never a busy, half-written or missing file.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use flatnet_tests::site::{Site, Used, version};
use flatnet_tests::tool;

const CYCLES: usize = 1_000;
const SUBNETS: [&str; 2] = ["--subnets", "10.22.0.0/24"];

#[derive(Default)]
struct Counts {
    ours: AtomicUsize,
    other: AtomicUsize,
    /// The configuration was replaced between looking and reading, or between reading and executing.
    overtaken: AtomicUsize,
}

/// Reads the configuration directory and executes what it names, until told to stop.
fn runtime(site: &Site, stop: &AtomicBool, counts: &Counts) -> Result<(), String> {
    while !stop.load(Ordering::Relaxed) {
        // A file may go between listing and reading: a runtime looks again then.
        let Some(used) = look(site, counts)? else { return Err("no network".to_owned()) };
        for plugin in &used.plugins {
            let path = site.bin(plugin);
            let result = if plugin == "flatnet" {
                version(&path)
            } else {
                tool(&path, &[]);
                Ok(())
            };
            match result {
                Ok(()) if plugin == "flatnet" => _ = counts.ours.fetch_add(1, Ordering::Relaxed),
                Ok(()) => _ = counts.other.fetch_add(1, Ordering::Relaxed),
                // Gone, and so is the configuration that named it: an uninstall came in between.
                Err(e) if is_absent(&e) && site.used().ok().flatten().as_ref() != Some(&used) => {
                    counts.overtaken.fetch_add(1, Ordering::Relaxed);
                }
                Err(e) => return Err(format!("{used:?}: {e}")),
            }
        }
    }
    Ok(())
}

fn is_absent(error: &str) -> bool {
    error.contains("(os error 2)")
}

/// The network, once two looks agree.
fn look(site: &Site, counts: &Counts) -> Result<Option<Used>, String> {
    let mut last = site.used();
    for _ in 0..100 {
        match (&last, site.used()) {
            (Ok(Some(before)), Ok(Some(now))) if *before == now => return Ok(Some(now)),
            (_, Err(e)) if !is_absent(&e) => return Err(e),
            (_, now) => last = now,
        }
        counts.overtaken.fetch_add(1, Ordering::Relaxed);
    }
    last
}

#[test]
fn a_thousand_cycles_while_plugins_are_executed() {
    let site = Site::new();
    site.write_other("05-other.conflist");
    let start = site.everything();
    let one = fs::read(site.plugin()).unwrap();
    // What follows a program in its file is nothing to the kernel.
    let two = [one.as_slice(), b"another version"].concat();
    let write_plugin = |content: &[u8]| {
        let file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o755).open(site.plugin());
        std::io::Write::write_all(&mut file.unwrap(), content).unwrap();
    };
    let (stop, counts) = (AtomicBool::new(false), Counts::default());
    let take_over = [SUBNETS[0], SUBNETS[1], "--take-over"];
    thread::scope(|scope| {
        let runtime = scope.spawn(|| runtime(&site, &stop, &counts));
        for cycle in 0..CYCLES {
            match cycle % 5 {
                0 => _ = site.good("install", &SUBNETS),
                1 => _ = site.good("install", &take_over),
                2 => {
                    write_plugin(&two);
                    site.good("install", &take_over);
                }
                3 => {
                    write_plugin(&one);
                    site.good("install", &take_over);
                }
                _ => _ = site.good("uninstall", &[]),
            }
            if runtime.is_finished() {
                println!("the runtime gave up in cycle {cycle}");
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        runtime.join().unwrap().unwrap();
    });
    assert!(site.everything() == start, "{:?}", site.everything().keys());
    let [ours, other, overtaken] =
        [&counts.ours, &counts.other, &counts.overtaken].map(|count| count.load(Ordering::Relaxed));
    println!(
        "{CYCLES} cycles: flatnet executed {ours} times, the other plugin {other}, overtaken {overtaken}"
    );
    assert!(ours > 1_000 && other > 100, "{ours} {other}");
}
