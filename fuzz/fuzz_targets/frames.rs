//! Any frames, behind any virtio-net headers, into any ports of an engine. What an input looks like and what is checked
//! stands at the head of `minivpc_testkit::fuzz`; an ordinary test of `dataplane` replays the corpus without a fuzzer.
//!
//! `mkdir -p fuzz/found && cargo +nightly fuzz run frames fuzz/found fuzz/corpus/frames` runs it.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| minivpc_testkit::fuzz::run(input));
