//! Time: an NTP server that shows this machine's clock.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use minivpc_packet::ntp::{Server, reply};
use tokio::net::UdpSocket;

const CLOCK: Server = Server { stratum: 1, reference: *b"LOCL" };

/// Answers on this socket, until it fails.
pub async fn answer(socket: UdpSocket) -> io::Result<()> {
    let mut packet = [0; 1024];
    loop {
        // An ICMP error about an earlier answer isn't the end.
        let Ok((length, client)) = socket.recv_from(&mut packet).await else { continue };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if let Some(reply) = reply(&packet[..length], CLOCK, now) {
            let _ = socket.send_to(&reply, client).await;
        }
    }
}
