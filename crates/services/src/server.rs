//! All services of one host.

use std::io;
use std::net::Ipv4Addr;

use minivpc_model::Service;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use crate::{Identity, http, ntp};

/// Answers for the host of this name, on all its addresses, until the process ends. Who connects after `ready` was called
/// isn't refused.
///
/// # Errors
/// When a port is taken.
pub fn serve(host: &str, services: &[Service], identity: &Identity, ready: impl FnOnce()) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut running = JoinSet::new();
        for service in services {
            let (host, identity) = (host.to_owned(), identity.clone());
            match service {
                Service::Http => {
                    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).await?;
                    running.spawn(async move { http::plain(&host, listener).await });
                }
                Service::Https => {
                    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 443)).await?;
                    running.spawn(async move { http::tls(&host, &identity, listener).await });
                }
                Service::Ntp => {
                    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 123)).await?;
                    running.spawn(ntp::answer(socket));
                }
            }
        }
        ready();
        match running.join_next().await {
            Some(ended) => ended.map_err(io::Error::other)?,
            None => Ok(()),
        }
    })
}
