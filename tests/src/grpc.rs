//! A blocking gRPC client for the one method of the Go system's service: for nodes that have no HTTP side.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use groupcache_proto::groupcachepb::{GetRequest, GetResponse};
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

/// gRPC's frame around a message: a byte that says whether it is compressed, and its length in four.
const HEAD: usize = 5;

/// A client of one node, with one connection that is kept.
#[derive(Debug)]
pub struct Client {
    addr: String,
    timeout: Duration,
    runtime: Runtime,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum GetError {
    /// No answer within the client's time.
    Hung,
    /// The connection was refused or broke.
    Broken(String),
    /// The node's own words: the code and the message of a gRPC status.
    Status(String),
}

impl Client {
    /// A client of the node at `addr` (`host:port`) that waits for an answer for `timeout`. Connects with the first request.
    ///
    /// # Panics
    /// When the system has no more descriptors.
    #[must_use]
    pub fn new(addr: &str, timeout: Duration) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime of tokio");
        Self { addr: addr.to_owned(), timeout, runtime, connection: None }
    }

    /// `groupcachepb.GroupCache/Get`.
    ///
    /// # Errors
    /// See [`GetError`]; the next call connects anew where that is needed.
    pub fn get(&mut self, group: &str, key: &str) -> Result<Vec<u8>, GetError> {
        let message = GetRequest { group: group.to_owned(), key: key.to_owned() };
        let (kept, addr, timeout) = (self.connection.take(), &self.addr, self.timeout);
        let answered = self.runtime.block_on(async {
            let call = async {
                let mut connection = match kept {
                    Some(kept) if !kept.is_closed() => kept,
                    _ => connect(addr).await?,
                };
                let value = call(&mut connection, addr, &message).await;
                Ok((connection, value))
            };
            tokio::time::timeout(timeout, call).await.unwrap_or(Err(GetError::Hung))
        });
        let (connection, value) = answered?;
        self.connection = Some(connection);
        value
    }
}

fn broken(error: impl std::error::Error) -> GetError {
    GetError::Broken(error.to_string())
}

async fn connect(addr: &str) -> Result<SendRequest<Full<Bytes>>, GetError> {
    let stream = TcpStream::connect(addr).await.map_err(broken)?;
    stream.set_nodelay(true).map_err(broken)?;
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(broken)?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn call(
    connection: &mut SendRequest<Full<Bytes>>,
    addr: &str,
    message: &GetRequest,
) -> Result<Vec<u8>, GetError> {
    let mut body = BytesMut::with_capacity(HEAD + message.encoded_len());
    body.put_u8(0);
    body.put_u32(message.encoded_len() as u32);
    message.encode(&mut body).map_err(broken)?;
    let request = Request::post(format!("http://{addr}/groupcachepb.GroupCache/Get"))
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(body.freeze()))
        .map_err(broken)?;
    connection.ready().await.map_err(broken)?;
    let answer = connection.send_request(request).await.map_err(broken)?;
    let headers = answer.headers().clone();
    let collected = answer.into_body().collect().await.map_err(broken)?;
    let trailers = collected.trailers().unwrap_or(&headers);
    let text = |name| trailers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if text("grpc-status") != "0" {
        return Err(GetError::Status(format!("{} {}", text("grpc-status"), text("grpc-message"))));
    }
    let body = collected.to_bytes();
    let message = body.get(HEAD..).ok_or_else(|| GetError::Broken("no message".to_owned()))?;
    Ok(GetResponse::decode(message).map_err(broken)?.value.to_vec())
}
