#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ahoy_tests::fuzz::private_network(bytes));
