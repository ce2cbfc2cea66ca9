//! The `groupcache` crate, 0.3, as its documentation sets it up: tonic's server and channel, on tokio.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use groupcache::{Groupcache, GroupcachePeer, ValueLoader};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::drive::Asker;

/// Loads the same value for every key; or nothing, where every key is to come from the other.
#[derive(Debug)]
struct Loader(Option<String>);

#[async_trait]
impl ValueLoader for Loader {
    type Value = String;

    async fn load(&self, _: &str) -> Result<String, Box<dyn std::error::Error + Send + Sync + 'static>> {
        self.0.clone().ok_or_else(|| "not a key of the other".into())
    }
}

/// Hot copies of a thousandth of a second, as the nodes that it is compared with: each is stored, and none answers.
const HOT_TTL: Duration = Duration::from_millis(1);

fn node(addr: &str, value: Option<String>) -> Groupcache<String> {
    let hot = moka::future::Cache::builder().max_capacity(10_000).time_to_live(HOT_TTL).build();
    let addr: SocketAddr = addr.parse().expect("an address");
    Groupcache::builder(addr.into(), Loader(value)).hot_cache(hot).build()
}

fn peer(addr: &str) -> GroupcachePeer {
    GroupcachePeer::from_socket(addr.parse().expect("an address"))
}

/// A node that asks the one at the other address.
#[derive(Clone)]
pub(super) struct Client(Groupcache<String>);

impl Client {
    pub(super) async fn connect(addr: &str, owner: &str) -> Self {
        let node = node(addr, None);
        node.add_peer(peer(owner)).await.expect("the other listens");
        Self(node)
    }

    /// As many keys as are wanted of those that the other owns: its ring can be asked only by asking for them.
    pub(super) async fn keys(&self, count: usize) -> Vec<String> {
        let mut keys = Vec::with_capacity(count);
        let mut number = 0;
        while keys.len() < count {
            let key = super::key(number);
            if self.0.get(&key).await.is_ok() {
                keys.push(key);
            }
            number += 1;
        }
        keys
    }
}

impl Asker for Client {
    async fn ask(&self, keys: &[String]) {
        let value = self.0.get(&keys[0]).await.expect("a value");
        assert!(!value.is_empty());
    }
}

/// Serves at `addr` for ever. `listening` is told where.
pub(super) async fn serve(addr: &str, value: String, listening: impl FnOnce(String)) {
    let node = node(addr, Some(value));
    let incoming =
        TcpIncoming::bind(addr.parse().expect("an address")).expect("a free port").with_nodelay(Some(true));
    listening(addr.to_owned());
    let served = Server::builder().add_service(node.grpc_service()).serve_with_incoming(incoming).await;
    served.expect("a server that goes on");
}
