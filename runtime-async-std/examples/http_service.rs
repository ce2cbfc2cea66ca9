//! A service on async-std that embeds groupcache: `cargo run -p groupcache-async-std --example http_service -- --help`.
//!
//! HTTP is hyper's, over async-std's sockets: web frameworks for async-std are as discontinued as it is.

#![forbid(unsafe_code)]

#[path = "../../runtime/examples/common/service.rs"]
mod service;

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_signal::{Signal, Signals};
use async_std::net::{TcpListener, TcpStream};
use bytes::Bytes;
use clap::Parser;
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use groupcache_async_std as groupcache;
use groupcache_async_std::{Group, RetrieveError, Server};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::server::graceful::GracefulShutdown;
use percent_encoding::percent_decode_str;
use service::{Args, QUERY_TIME, Table};
use smol_hyper::rt::FuturesIo;

type AnyError = Box<dyn Error + Send + Sync>;

/// What every request gets. All of it is cheap to clone.
#[derive(Clone)]
struct App {
    server: Server,
    scores: Group,
    table: Arc<Table>,
}

fn main() -> Result<(), AnyError> {
    let args = Args::parse();
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    async_std::task::block_on(run(args))
}

async fn run(args: Args) -> Result<(), AnyError> {
    let mut signals = Signals::new([Signal::Term, Signal::Int])?;

    let table = Arc::new(Table::new());
    let server = Server::builder().addr(args.addr).peers(args.peers).build()?;
    let database = Arc::clone(&table);
    // Called once for a key, by its owner, however many ask on however many nodes.
    let query = move |name: String| {
        let database = Arc::clone(&database);
        async move {
            async_std::task::sleep(QUERY_TIME).await;
            database.query(&name).map(|score| score.to_string()).ok_or_else(RetrieveError::not_found)
        }
    };
    let scores = server
        .group_builder("scores")
        .retriever(query)
        .ttl(Duration::from_secs(600))
        .negative_ttl(Duration::from_secs(10))
        .build()?;

    // HTTP first: a member that cannot serve must not be found by others.
    let listener = TcpListener::bind(&args.http).await?;
    let http = listener.local_addr()?;
    server.start().await?;
    println!("scores at http://{http}/scores/Tom (peers at {})", server.addr());

    // Leaves the fleet first, finishes what peers have asked, and answers clients meanwhile.
    let leave = async {
        signals.next().await;
        server.stop().await;
    };
    serve(listener, App { server: server.clone(), scores, table }, leave).await;
    Ok(())
}

/// Serves until `end`, and then lets requests in progress finish.
async fn serve(listener: TcpListener, app: App, end: impl Future<Output = ()>) {
    let (mut end, open) = (pin!(end), GracefulShutdown::new());
    loop {
        match select(end.as_mut(), pin!(listener.accept())).await {
            Either::Left(((), _)) => break,
            Either::Right((Ok((stream, _)), _)) => connection(stream, app.clone(), &open),
            Either::Right((Err(error), _)) => {
                // With too many open files the next try fails as well.
                tracing::warn!(%error, "cannot accept a client");
                async_std::task::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    open.shutdown().await;
}

fn connection(stream: TcpStream, app: App, open: &GracefulShutdown) {
    let service = service_fn(move |request| answer(app.clone(), request));
    let connection = open.watch(http1::Builder::new().serve_connection(FuturesIo::new(stream), service));
    async_std::task::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a client's connection ended");
        }
    });
}

async fn answer(app: App, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    if path == "/stats" {
        return Ok(response(200, "", service::stats(&app.server, app.table.queries()).to_string()));
    }
    let name = path.strip_prefix("/scores/").map(|name| percent_decode_str(name).decode_utf8());
    let answered = match (request.method(), name) {
        (&Method::GET, Some(Ok(name))) => score(&app, &name).await,
        (&Method::DELETE, Some(Ok(name))) => forget(&app, &name).await,
        _ => return Ok(response(404, "", "GET or DELETE /scores/NAME, or GET /stats")),
    };
    Ok(answered.unwrap_or_else(|error| response(service::status(error.kind()), "", error.to_string())))
}

async fn score(app: &App, name: &str) -> Result<Response<Full<Bytes>>, groupcache::Error> {
    // No patience of its own: a client that hangs up takes its `get` with it, and harms no other.
    let found = app.scores.lookup(name).await?;
    Ok(response(200, service::source(found.level), found.value.into_bytes()))
}

/// To be called after the database has changed.
async fn forget(app: &App, name: &str) -> Result<Response<Full<Bytes>>, groupcache::Error> {
    let report = app.scores.remove(name).await?;
    Ok(response(200, "", serde_json::json!(report).to_string()))
}

fn response(status: u16, source: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    if !source.is_empty() {
        response.headers_mut().insert("x-groupcache", hyper::header::HeaderValue::from_static(source));
    }
    response
}
