//! What do a host of a lab's internet and a VPC's subnets answer, when nobody has written commands for it?
//!
//! A host: HTTP, HTTPS with a certificate of the lab's own authority, and time: enough for `curl https://example.com/` and
//! for a client of NTP. What it answers tells the client how the internet sees it: by which address, and from which port.
//! A subnet: instances' metadata, and the resolver's answers, which it gets from whoever calls it.
//!
//! - `authority.rs`: the lab's certificate authority, which its guests trust.
//! - `http.rs`: HTTP, plain and over TLS; `ntp.rs`: time.
//! - `server.rs`: all services of one host, in one process that runs inside it.
//! - `subnet/`: what subnets offer by TCP, in a thread of the lab's engine.
//!
//! It moves no packets, and enters no namespace: whoever calls it is where they come. A client that says
//! nothing, or nonsense, costs one of a bounded number of connections, for a bounded time.

mod authority;
mod http;
mod ntp;
mod server;
pub mod subnet;

pub use authority::{Authority, AuthorityError, Identity};
pub use server::serve;
