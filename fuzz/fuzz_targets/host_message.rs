#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| drop(bgctl_fuzz_cases::host_message(data)));
