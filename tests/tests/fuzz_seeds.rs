//! The fuzzers' entry points, without a fuzzer: each seed as it is, and spoilt in thousands of ways, always
//! the same ones.

use std::path::Path;

use flatnet_tests::dice::Dice;
use flatnet_tests::entry;

/// Seeds of one target; the fuzzers start from them too.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let mut paths: Vec<_> =
        std::fs::read_dir(&folder).expect("list").map(|entry| entry.expect("list").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("read a seed")).collect()
}

/// Hands out every seed, then `rounds` spoilt ones; says which round it was where something does not hold.
fn spoil(target: &str, rounds: usize, entry: fn(&[u8])) {
    let seeds = seeds(target);
    assert!(seeds.len() >= 3, "{target} has {} seeds", seeds.len());
    seeds.iter().for_each(|seed| entry(seed));
    let mut dice = Dice::new(0x5eed);
    for round in 0..rounds {
        let mut bytes = seeds[dice.below(seeds.len())].clone();
        dice.spoil(&mut bytes);
        let fine = std::panic::catch_unwind(|| entry(&bytes)).is_ok();
        assert!(fine, "{target} round {round}: {:?}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn stdin_spoilt() {
    spoil("stdin", 20_000, entry::stdin);
}

#[test]
fn environment_spoilt() {
    spoil("environment", 20_000, entry::environment);
}

/// The first byte says which file it is: it is put back where it was spoilt, so that the reader is reached.
#[test]
fn state_files_spoilt() {
    spoil("state", 1_000, entry::state_file);
    for kind in *b"rsp" {
        let mut dice = Dice::new(kind.into());
        let seed = seeds("state").into_iter().find(|seed| seed.first() == Some(&kind)).expect("a seed");
        for _ in 0..700 {
            let mut content = seed[1..].to_vec();
            dice.spoil(&mut content);
            if kind == b'p' {
                // A pool of another length is set aside at once.
                content.resize(seed.len() - 1, 0x55);
            }
            entry::state_file(&[&[kind], content.as_slice()].concat());
        }
    }
}
