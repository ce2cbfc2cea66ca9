//! What a node relies on in this runtime.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::time::{Duration, Instant};

use groupcache_tokio::{Connection, Runtime, Tokio};
use hyper::rt::ReadBuf;

const SOON: Duration = Duration::from_secs(10);

async fn pair() -> io::Result<(Box<dyn Connection>, Box<dyn Connection>)> {
    let mut listener = Tokio.listen("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    assert_ne!(addr.port(), 0);
    let client = Tokio.connect(&addr.to_string()).await?;
    let (server, _) = listener.accept().await?;
    Ok((client, server))
}

async fn write(io: &mut dyn Connection, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = poll_fn(|cx| Pin::new(&mut *io).poll_write(cx, bytes)).await?;
        bytes = &bytes[written..];
    }
    poll_fn(|cx| Pin::new(&mut *io).poll_flush(cx)).await
}

async fn read(io: &mut dyn Connection) -> io::Result<Vec<u8>> {
    let mut space = [0; 1024];
    let mut buffer = ReadBuf::new(&mut space);
    poll_fn(|cx| Pin::new(&mut *io).poll_read(cx, buffer.unfilled())).await?;
    Ok(buffer.filled().to_vec())
}

#[tokio::test]
async fn bytes_cross_and_an_end_is_seen() {
    let (mut client, mut server) = pair().await.expect("loopback works");
    write(&mut *client, b"ping").await.expect("it is connected");
    assert_eq!(read(&mut *server).await.expect("it is connected"), b"ping");
    write(&mut *server, b"pong").await.expect("it is connected");
    assert_eq!(read(&mut *client).await.expect("it is connected"), b"pong");
    drop(client);
    assert_eq!(read(&mut *server).await.expect("an end in order"), b"");
}

#[tokio::test]
async fn names_resolve_and_refusals_are_errors() {
    let mut listener = Tokio.listen("localhost:0").await.expect("it has a name");
    let port = listener.local_addr().expect("it listens").port();
    Tokio.connect(&format!("localhost:{port}")).await.expect("it has a name");
    listener.accept().await.expect("it was connected to");
    let taken = Tokio.listen(&format!("localhost:{port}")).await.err().expect("it is taken");
    assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    drop(listener);
    let refused = Tokio.connect(&format!("localhost:{port}")).await.err().expect("nobody listens");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    assert!(Tokio.connect("no address").await.is_err());
}

#[tokio::test]
async fn a_sleep_is_never_short() {
    for millis in [0, 1, 30] {
        let start = Instant::now();
        Tokio.sleep(Duration::from_millis(millis)).await;
        assert!(start.elapsed() >= Duration::from_millis(millis));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_panic_leave_the_runtime_running() {
    // More than there are threads.
    for _ in 0..64 {
        Tokio.spawn(Box::pin(async { panic!("as the test asks") }));
    }
    let (sender, receiver) = tokio::sync::oneshot::channel();
    Tokio.spawn(Box::pin(async move {
        Tokio.sleep(Duration::from_millis(1)).await;
        let _ = sender.send(());
    }));
    tokio::time::timeout(SOON, receiver).await.expect("it runs").expect("to its end");
}
