//! A service on axum that embeds groupcache: `cargo run -p groupcache-tokio --example axum_service -- --help`.

#![forbid(unsafe_code)]

#[path = "../../runtime/examples/common/service.rs"]
mod service;
#[path = "../src/bin/groupcache/signals.rs"]
mod signals;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use axum::{Router, serve};
use clap::Parser;
use groupcache_tokio as groupcache;
use groupcache_tokio::{Group, RemoveReport, RetrieveError, Server};
use service::{Args, QUERY_TIME, Table};
use signals::Signals;
use tokio::net::TcpListener;

/// What every handler gets. All of it is cheap to clone.
#[derive(Clone)]
struct App {
    server: Server,
    scores: Group,
    table: Arc<Table>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut signals = Signals::listen()?;

    let table = Arc::new(Table::new());
    let server = Server::builder().addr(args.addr).peers(args.peers).build()?;
    let database = Arc::clone(&table);
    // Called once for a key, by its owner, however many ask on however many nodes.
    let query = move |name: String| {
        let database = Arc::clone(&database);
        async move {
            tokio::time::sleep(QUERY_TIME).await;
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

    let app = App { server: server.clone(), scores, table };
    let routes = Router::new()
        .route("/scores/{name}", get(score).delete(forget))
        .route("/stats", get(stats))
        .with_state(app);
    // Leaves the fleet first, finishes what peers have asked, and answers clients meanwhile.
    let leave = async move {
        signals.next().await;
        server.stop().await;
    };
    serve(listener, routes).with_graceful_shutdown(leave).await?;
    Ok(())
}

async fn score(State(app): State<App>, Path(name): Path<String>) -> Result<impl IntoResponse, Failed> {
    // No patience of its own: a client that hangs up takes its `get` with it, and harms no other.
    let found = app.scores.lookup(&name).await?;
    let headers = [("content-type", "text/plain"), ("x-groupcache", service::source(found.level))];
    Ok((headers, found.value.into_bytes()))
}

/// To be called after the database has changed.
async fn forget(State(app): State<App>, Path(name): Path<String>) -> Result<Json<RemoveReport>, Failed> {
    Ok(Json(app.scores.remove(&name).await?))
}

async fn stats(State(app): State<App>) -> impl IntoResponse {
    Json(service::stats(&app.server, app.table.queries()))
}

/// The cache's error as an answer.
struct Failed(groupcache::Error);

impl From<groupcache::Error> for Failed {
    fn from(error: groupcache::Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(service::status(self.0.kind()));
        (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), self.0.to_string()).into_response()
    }
}
