//! The bare server: what hyper does on one core when there is no function behind it.
//!
//! The same shape as a worker of the node: a current-thread tokio runtime, HTTP/1.1 with
//! keep-alive, TCP_NODELAY, one listener. It answers every request with the same head and body,
//! which the benchmark copies from an answer of the node, so that both write the same bytes.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Response, server::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Flags of `awsm-bench bare-server`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// A header of every answer, as `name: value` (may be repeated)
    #[arg(long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// The body of every answer
    #[arg(long, value_name = "TEXT", default_value = "")]
    body: String,
}

/// Serves until it is killed; prints `Serving http://ADDRESS` first.
pub(crate) fn run(options: &Options) -> Result<()> {
    let headers = headers(&options.headers)?;
    let body = Bytes::from(options.body.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(serve(headers, body))
}

async fn serve(headers: HeaderMap, body: Bytes) -> Result<()> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    println!("Serving http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (headers, body) = (headers.clone(), body.clone());
        let answer = service_fn(move |_request| {
            let mut response = Response::new(Full::new(body.clone()));
            *response.headers_mut() = headers.clone();
            async move { Ok::<_, Infallible>(response) }
        });
        // A client that breaks the connection off has its reasons.
        tokio::spawn(async move {
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

fn headers(lines: &[String]) -> Result<HeaderMap> {
    let mut map = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").with_context(|| format!("no header: {line}"))?;
        map.append(name.parse::<HeaderName>()?, value.parse::<HeaderValue>()?);
    }
    Ok(map)
}
