//! Capture files and capture filters: what tcpdump and Wireshark read, and what tcpdump's users type.

pub mod bpf;
pub mod filter;
pub mod pcapng;

pub use bpf::Program;
