#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ahoy_tests::fuzz::control_lines(bytes));
