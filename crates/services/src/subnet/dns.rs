//! DNS over TCP: messages behind their lengths, one after the other (RFC 7766).

use std::io;
use std::sync::Arc;

use minivpc_model::Serial;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Lab;

/// Until the client has no more questions, or asks nonsense.
pub async fn converse(lab: Arc<dyn Lab>, caller: Serial, mut stream: TcpStream) {
    while let Ok(Some(answer)) = answer(&*lab, caller, &mut stream).await {
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

async fn answer(lab: &dyn Lab, caller: Serial, stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let length = stream.read_u16().await?;
    let mut question = vec![0; length.into()];
    stream.read_exact(&mut question).await?;
    let Some(answer) = lab.resolve(caller, &question) else { return Ok(None) };
    let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
    // In one segment.
    Ok(Some([&length.to_be_bytes(), &*answer].concat()))
}
