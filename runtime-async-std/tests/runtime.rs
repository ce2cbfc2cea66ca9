//! What a node relies on in this runtime.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use async_std::task::block_on;
use groupcache_async_std::{AsyncStd, Connection, Runtime};
use hyper::rt::ReadBuf;

const SOON: Duration = Duration::from_secs(10);

async fn pair() -> io::Result<(Box<dyn Connection>, Box<dyn Connection>)> {
    let mut listener = AsyncStd.listen("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    assert_ne!(addr.port(), 0);
    let client = AsyncStd.connect(&addr.to_string()).await?;
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

#[test]
fn bytes_cross_and_an_end_is_seen() {
    block_on(async {
        let (mut client, mut server) = pair().await.expect("loopback works");
        write(&mut *client, b"ping").await.expect("it is connected");
        assert_eq!(read(&mut *server).await.expect("it is connected"), b"ping");
        write(&mut *server, b"pong").await.expect("it is connected");
        assert_eq!(read(&mut *client).await.expect("it is connected"), b"pong");
        drop(client);
        assert_eq!(read(&mut *server).await.expect("an end in order"), b"");
    });
}

#[test]
fn names_resolve_and_refusals_are_errors() {
    block_on(async {
        let mut listener = AsyncStd.listen("localhost:0").await.expect("it has a name");
        let port = listener.local_addr().expect("it listens").port();
        AsyncStd.connect(&format!("localhost:{port}")).await.expect("it has a name");
        listener.accept().await.expect("it was connected to");
        let taken = AsyncStd.listen(&format!("localhost:{port}")).await.err().expect("it is taken");
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        let refused = AsyncStd.connect(&format!("localhost:{port}")).await.err().expect("nobody listens");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert!(AsyncStd.connect("no address").await.is_err());
    });
}

#[test]
fn a_sleep_is_never_short() {
    block_on(async {
        for millis in [0, 1, 30] {
            let start = Instant::now();
            AsyncStd.sleep(Duration::from_millis(millis)).await;
            assert!(start.elapsed() >= Duration::from_millis(millis));
        }
    });
}

#[test]
fn tasks_that_panic_leave_the_runtime_running() {
    // More than there are threads.
    for _ in 0..64 {
        AsyncStd.spawn(Box::pin(async { panic!("as the test asks") }));
    }
    let (sender, receiver) = mpsc::channel();
    AsyncStd.spawn(Box::pin(async move {
        AsyncStd.sleep(Duration::from_millis(1)).await;
        let _ = sender.send(());
    }));
    receiver.recv_timeout(SOON).expect("it runs");
}

#[test]
fn no_tokio_runtime_is_entered() {
    let (sender, receiver) = mpsc::channel();
    let inner = sender.clone();
    AsyncStd.spawn(Box::pin(async move {
        let _ = inner.send(tokio::runtime::Handle::try_current().is_err());
        AsyncStd.sleep(Duration::from_millis(1)).await;
        let _pair = pair().await.expect("loopback works");
        let _ = inner.send(tokio::runtime::Handle::try_current().is_err());
    }));
    drop(sender);
    for _ in 0..2 {
        assert!(receiver.recv_timeout(SOON).expect("it runs"), "a tokio runtime");
    }
}
