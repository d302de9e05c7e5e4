#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flatnet_tests::entry::state_file(bytes));
