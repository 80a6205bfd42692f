#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| afflux::probes::proxy_header(bytes));
