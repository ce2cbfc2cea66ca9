//! A real database behind the cache: students and their scores in SQLite, through sqlx, served by axum.
//!
//! `cargo run -p groupcache-tokio --example sqlite_scores -- --tour` shows what the cache does to the number of queries.

#![forbid(unsafe_code)]

#[path = "../src/bin/groupcache/signals.rs"]
mod signals;

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json};
use axum::routing::{get, put};
use axum::{Router, serve};
use clap::Parser;
use groupcache_tokio::{DEFAULT_ADDR, Group, RetrieveError, Server};
use serde_json::json;
use signals::Signals;
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteConnectOptions;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

type AnyError = Box<dyn Error + Send + Sync>;

/// Scores of students out of SQLite, each read once for the whole fleet.
///
///   curl -i http://127.0.0.1:8080/scores/Tom              reads
///   curl -X PUT http://127.0.0.1:8080/scores/Tom/640      updates, and has every member forget
///   curl http://127.0.0.1:8080/stats                      counts the queries
#[derive(Debug, Parser)]
#[command(version, verbatim_doc_comment)]
struct Args {
    /// The database's file. Made and filled when it is not there.
    #[arg(long, default_value = "scores.sqlite", value_name = "FILE")]
    database: PathBuf,

    /// Where the other members reach this one: listened on, and its name on the ring. Port 0 takes any free one.
    #[arg(long, default_value = DEFAULT_ADDR, value_name = "HOST:PORT")]
    addr: String,

    /// All members, the same list on every one; all use the same database.
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT,...")]
    peers: Vec<String>,

    /// Where clients are served. Port 0 takes any free one.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "HOST:PORT")]
    http: String,

    /// Ask the cache a few questions, say how many queries they took, and exit. On a database in memory.
    #[arg(long)]
    tour: bool,
}

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS student (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE IF NOT EXISTS score (student INTEGER PRIMARY KEY REFERENCES student (id), points INTEGER NOT NULL);
";

const PUPILS: [(&str, i64); 3] = [("Tom", 630), ("Jack", 589), ("Sam", 567)];

/// The database, with a count of what it was asked.
#[derive(Clone)]
struct Scores {
    pool: SqlitePool,
    queries: Arc<AtomicUsize>,
}

impl Scores {
    async fn open(options: SqliteConnectOptions) -> Result<Self, AnyError> {
        // One connection: each of a database in memory would see a database of its own.
        let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
        sqlx::raw_sql(SCHEMA).execute(&pool).await?;
        let scores = Self { pool, queries: Arc::default() };
        let pupils: i64 = sqlx::query_scalar("SELECT count(*) FROM student").fetch_one(&scores.pool).await?;
        if pupils == 0 {
            for (name, points) in PUPILS {
                scores.write(name, points).await?;
            }
        }
        Ok(scores)
    }

    /// What the cache asks when it does not know. A row that is not there is an answer, and kept as one; whatever the database says else is a
    /// failure, not kept, and the cause of the callers' errors.
    async fn read(&self, name: &str) -> Result<String, RetrieveError> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        let read =
            "SELECT points FROM score JOIN student ON student.id = score.student WHERE student.name = ?";
        let points: Option<i64> = sqlx::query_scalar(read).bind(name).fetch_optional(&self.pool).await?;
        points.map(|points| points.to_string()).ok_or_else(RetrieveError::not_found)
    }

    async fn write(&self, name: &str, points: i64) -> Result<(), sqlx::Error> {
        let mut change = self.pool.begin().await?;
        sqlx::query("INSERT INTO student (name) VALUES (?) ON CONFLICT DO NOTHING")
            .bind(name)
            .execute(&mut *change)
            .await?;
        sqlx::query("INSERT OR REPLACE INTO score SELECT id, ? FROM student WHERE name = ?")
            .bind(points)
            .bind(name)
            .execute(&mut *change)
            .await?;
        change.commit().await
    }

    fn queries(&self) -> usize {
        self.queries.load(Ordering::Relaxed)
    }
}

/// What every handler gets.
#[derive(Clone)]
struct App {
    database: Scores,
    group: Group,
}

impl App {
    fn new(server: &Server, database: Scores) -> Result<Self, AnyError> {
        let origin = database.clone();
        let read = move |name: String| {
            let origin = origin.clone();
            async move { origin.read(&name).await }
        };
        let group = server
            .group_builder("scores")
            .retriever(read)
            // How long somebody who is not there is not asked for again, unless an update comes through here.
            .negative_ttl(Duration::from_secs(10))
            .build()?;
        Ok(Self { database, group })
    }

    /// The database first, then the cache: a load that began before the removal cannot bring the old score back.
    async fn update(&self, name: &str, points: i64) -> Result<Vec<String>, AnyError> {
        self.database.write(name, points).await?;
        Ok(self.group.remove(name).await?.unacknowledged)
    }
}

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let args = Args::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    if args.tour {
        return tour().await;
    }
    let mut signals = Signals::listen()?;
    let options = SqliteConnectOptions::new().filename(&args.database).create_if_missing(true);
    let database = Scores::open(options).await?;
    let server = Server::builder().addr(args.addr).peers(args.peers).build()?;
    let app = App::new(&server, database.clone())?;
    let listener = TcpListener::bind(&args.http).await?;
    let http = listener.local_addr()?;
    server.start().await?;
    println!("scores at http://{http}/scores/Tom (peers at {})", server.addr());

    let routes = Router::new()
        .route("/scores/{name}", get(read))
        .route("/scores/{name}/{points}", put(write))
        .route("/stats", get(stats))
        .with_state(app);
    let leave = async move {
        signals.next().await;
        server.stop().await;
    };
    serve(listener, routes).with_graceful_shutdown(leave).await?;
    database.pool.close().await;
    Ok(())
}

async fn read(State(app): State<App>, Path(name): Path<String>) -> (StatusCode, String) {
    match app.group.get(&name).await {
        Ok(points) => (StatusCode::OK, points.to_string()),
        Err(error) if error.is_not_found() => (StatusCode::NOT_FOUND, format!("no score of {name}")),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()),
    }
}

async fn write(State(app): State<App>, Path((name, points)): Path<(String, i64)>) -> (StatusCode, String) {
    match app.update(&name, points).await {
        Ok(late) if late.is_empty() => (StatusCode::OK, format!("{name} has {points}")),
        // They show the old score for as long as a hot copy lives, and no longer.
        Ok(late) => (StatusCode::ACCEPTED, format!("{name} has {points}; not yet known to {late:?}")),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()),
    }
}

async fn stats(State(app): State<App>) -> impl IntoResponse {
    Json(json!({ "queries": app.database.queries() }))
}

/// A few questions, and what they cost.
async fn tour() -> Result<(), AnyError> {
    let database = Scores::open("sqlite::memory:".parse()?).await?;
    let server = Server::builder().addr("127.0.0.1:0").build()?;
    let app = App::new(&server, database.clone())?;
    server.start().await?;
    let told =
        |what: &str, before: usize| println!("{what}: {} in the database", database.queries() - before);

    let before = database.queries();
    let mut callers = JoinSet::new();
    for _ in 0..100 {
        let group = app.group.clone();
        callers.spawn(async move { group.get("Tom").await });
    }
    for points in callers.join_all().await {
        assert_eq!(points?.as_bytes(), b"630");
    }
    told("100 callers at once ask for Tom", before);

    let before = database.queries();
    app.update("Tom", 640).await?;
    assert_eq!(app.group.get("Tom").await?.as_bytes(), b"640");
    assert_eq!(app.group.get("Tom").await?.as_bytes(), b"640");
    told("Tom gets 640 points, and is asked for twice", before);

    let before = database.queries();
    for _ in 0..10 {
        let error = app.group.get("Nobody").await.expect_err("there is no such row");
        assert!(error.is_not_found());
    }
    told("10 callers ask for Nobody", before);

    let before = database.queries();
    app.update("Nobody", 1).await?;
    assert_eq!(app.group.get("Nobody").await?.as_bytes(), b"1");
    told("Nobody gets a point, and is found", before);

    database.pool.close().await;
    let error = app.group.get("Jack").await.expect_err("the database is gone");
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    println!("the database is closed: {error} ({cause})");
    server.stop().await;
    Ok(())
}
