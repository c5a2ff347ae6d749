//! HTTP, plain and over TLS.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::IntoResponse;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};

use crate::Identity;

/// Connections of one listener at once; further ones wait.
const MOST: usize = 256;
/// How long a client may take for its part of a handshake, or for the head of a request.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which host answers.
#[derive(Debug, Clone)]
struct Host(Arc<str>);

/// Every request gets the same answer: who has asked what, as it is seen here.
async fn answer(
    State(Host(host)): State<Host>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    asked: Request,
) -> impl IntoResponse {
    let (method, uri) = (asked.method().clone(), asked.uri().clone());
    // A log that nobody keeps any more is no reason not to answer.
    let _ = writeln!(io::stdout(), "{client} {method} {uri}");
    format!("This is {host}.\nYou are {} port {}, and asked for {method} {uri}\n", client.ip(), client.port())
}

fn router(host: &str, client: SocketAddr) -> Router {
    Router::new().fallback(answer).with_state(Host(host.into())).layer(axum::Extension(ConnectInfo(client)))
}

/// Answers over TCP, until the process ends.
pub async fn plain(host: &str, listener: TcpListener) -> io::Result<()> {
    each(listener, |client, stream| {
        let router = router(host, client);
        async move { converse(router, stream).await }
    })
    .await
}

/// Answers over TLS.
pub async fn tls(host: &str, identity: &Identity, listener: TcpListener) -> io::Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(config(identity).map_err(io::Error::other)?));
    each(listener, |client, stream| {
        let (router, acceptor) = (router(host, client), acceptor.clone());
        async move {
            // Who doesn't trust the certificate says so, and goes.
            if let Ok(Ok(stream)) = timeout(PATIENCE, acceptor.accept(stream)).await {
                converse(router, stream).await;
            }
        }
    })
    .await
}

fn config(identity: &Identity) -> Result<ServerConfig, tokio_rustls::rustls::Error> {
    let chain = identity.chain.iter().cloned().map(CertificateDer::from).collect();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(identity.key.clone()));
    let builder = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()));
    builder.with_safe_default_protocol_versions()?.with_no_client_auth().with_single_cert(chain, key)
}

async fn each<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    serve: impl Fn(SocketAddr, TcpStream) -> F,
) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(MOST));
    loop {
        let permit = Arc::clone(&room).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            // Too many descriptors, or a client that has gone: others are served on.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let served = serve(client, stream);
        tokio::spawn(async move {
            served.await;
            drop(permit);
        });
    }
}

async fn converse(router: Router, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    // A client that breaks off is no failure.
    let _ = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
}
