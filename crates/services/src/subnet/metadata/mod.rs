//! The metadata service of instances, with tokens and without (IMDS-1 to IMDS-3).
//!
//! `tree.rs`: what there is to be read; `token.rs`: who may read it.

mod token;
mod tree;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::http::header::{ACCEPT_RANGES, ALLOW, CONTENT_TYPE, HeaderName, SERVER};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use minivpc_model::{Instance, MetadataOptions, Serial, World};
use rustix::net::sockopt::set_ip_ttl;
use tokio::net::TcpStream;

use super::{Lab, PATIENCE};

const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
const TOKEN_TTL: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const TOKEN_PATH: &str = "/latest/api/token";
/// Seconds that a token may be valid for.
const TTLS: std::ops::RangeInclusive<u64> = 1..=21_600;
/// Longest head of a request, bytes.
const LONGEST: usize = 16 << 10;

/// What is answered, and what it must have on the wire.
struct Answer {
    status: StatusCode,
    headers: Vec<(HeaderName, String)>,
    body: String,
    /// TTL of its packets; none is any.
    hop_limit: Option<u8>,
}

impl Answer {
    fn text(body: String) -> Self {
        Self { headers: vec![(CONTENT_TYPE, "text/plain".to_owned())], ..Self::empty(StatusCode::OK, body) }
    }

    fn empty(status: StatusCode, body: String) -> Self {
        Self { status, headers: Vec::new(), body, hop_limit: None }
    }

    /// As AWS's server says it.
    fn error(status: StatusCode) -> Self {
        let title = format!("{} - {}", status.as_u16(), status.canonical_reason().unwrap_or_default());
        let body = format!(
            r#"<?xml version="1.0" encoding="iso-8859-1"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"
	"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head>
  <title>{title}</title>
 </head>
 <body>
  <h1>{title}</h1>
 </body>
</html>
"#
        );
        Self { headers: vec![(CONTENT_TYPE, "text/html".to_owned())], ..Self::empty(status, body) }
    }

    fn with(mut self, name: HeaderName, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The body of an answer to HEAD isn't sent, but counts.
    fn response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("none"));
        headers.insert(SERVER, HeaderValue::from_static("EC2ws"));
        response
    }
}

/// One request of the instance behind an interface; the connection is closed behind it, as AWS's server does.
pub async fn converse(lab: Arc<dyn Lab>, caller: Serial, stream: TcpStream) {
    // The answer's packets need its TTL before the server has written it.
    let Ok(socket) = rustix::io::fcntl_dupfd_cloexec(&stream, 0) else { return };
    let serve = |request: Request<hyper::body::Incoming>| {
        let answer = answer(&*lab, caller, &request);
        let limited = answer.hop_limit.is_none_or(|limit| set_ip_ttl(&socket, limit.into()).is_ok());
        async move {
            // A token that goes further than it may is worse than none.
            let answer = if limited { answer } else { Answer::error(StatusCode::SERVICE_UNAVAILABLE) };
            Ok::<_, Infallible>(answer.response())
        }
    };
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .keep_alive(false)
        .max_buf_size(LONGEST)
        .title_case_headers(true);
    // A client that breaks off is no failure.
    let _ = http.serve_connection(TokioIo::new(stream), service_fn(serve)).await;
}

fn answer<B>(lab: &dyn Lab, caller: Serial, request: &Request<B>) -> Answer {
    let world = lab.world();
    let Some(instance) = instance_behind(&world, caller) else { return Answer::error(StatusCode::NOT_FOUND) };
    let (method, headers, options) = (request.method(), request.headers(), instance.metadata_options);
    if !options.http_endpoint {
        return Answer::error(StatusCode::FORBIDDEN);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    match (method, request.uri().path()) {
        (&Method::PUT, TOKEN_PATH) => give_token(lab, instance, headers, now),
        // Only the latest version gives them.
        (&Method::PUT, path) if path.ends_with("/api/token") => Answer::error(StatusCode::FORBIDDEN),
        (_, TOKEN_PATH) => Answer::error(StatusCode::METHOD_NOT_ALLOWED).with(ALLOW, "PUT".to_owned()),
        (&Method::GET | &Method::HEAD, path) => {
            let left = match admit(lab, instance, headers, now) {
                Ok(left) => left,
                Err(status) => return Answer::error(status),
            };
            let found = tree::read(&world, instance, lab, path);
            let answer = found.map_or_else(|| Answer::error(StatusCode::NOT_FOUND), Answer::text);
            match left {
                Some(left) => answer.with(TOKEN_TTL, left.to_string()),
                None => answer,
            }
        }
        _ => Answer::error(StatusCode::METHOD_NOT_ALLOWED).with(ALLOW, "GET, HEAD".to_owned()),
    }
}

fn instance_behind(world: &World, caller: Serial) -> Option<&Instance> {
    let eni = world.network_interfaces().find(|eni| eni.serial == caller)?;
    world.instance(eni.instance()?).ok()
}

fn give_token(lab: &dyn Lab, instance: &Instance, headers: &HeaderMap, now: Duration) -> Answer {
    // A proxy that is open to the world adds it.
    if headers.contains_key(FORWARDED_FOR) {
        return Answer::error(StatusCode::FORBIDDEN);
    }
    let ttl = headers.get(TOKEN_TTL).and_then(|value| value.to_str().ok()?.parse().ok());
    let Some(ttl) = ttl.filter(|ttl| TTLS.contains(ttl)) else { return Answer::error(StatusCode::BAD_REQUEST) };
    let MetadataOptions { http_put_response_hop_limit, .. } = instance.metadata_options;
    let token = token::new(&lab.key(), instance.id, milliseconds(now + Duration::from_secs(ttl)));
    Answer { hop_limit: Some(http_put_response_hop_limit), ..Answer::text(token).with(TOKEN_TTL, ttl.to_string()) }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// For how many seconds more the request's token is valid; none for one without, where none is required.
fn admit(lab: &dyn Lab, instance: &Instance, headers: &HeaderMap, now: Duration) -> Result<Option<u64>, StatusCode> {
    match headers.get(TOKEN) {
        Some(token) => {
            let until = token.to_str().ok().and_then(|token| token::valid_until(&lab.key(), instance.id, token));
            let left = until.and_then(|until| until.checked_sub(milliseconds(now))).filter(|left| *left > 0);
            left.map(|left| Some(left.div_ceil(1000))).ok_or(StatusCode::UNAUTHORIZED)
        }
        None if instance.metadata_options.http_tokens_required => Err(StatusCode::UNAUTHORIZED),
        None => Ok(None),
    }
}
