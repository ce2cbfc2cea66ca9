//! The floor below HTTP/2: length-prefixed frames on one TCP connection of tokio, many questions in flight, whatever is ready written at once.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_channel::{mpsc, oneshot};
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::drive::Asker;

/// A frame's length, without itself, and the number of its question.
const HEAD: usize = 8;

/// Written at once at most.
const FULL: usize = 256 << 10;

type Waiting = Arc<Mutex<HashMap<u32, oneshot::Sender<Bytes>>>>;

/// One connection. A clone shares it.
#[derive(Clone, Debug)]
pub(super) struct Client {
    questions: mpsc::UnboundedSender<(u32, Bytes)>,
    waiting: Waiting,
    next: Arc<AtomicU32>,
}

impl Client {
    pub(super) async fn connect(addr: &str) -> Self {
        let stream = TcpStream::connect(addr).await.expect("the server listens");
        stream.set_nodelay(true).expect("an open socket");
        let (input, output) = stream.into_split();
        let (questions, queue) = mpsc::unbounded();
        let waiting = Waiting::default();
        tokio::spawn(write(queue, output));
        tokio::spawn(read(input, Arc::clone(&waiting)));
        Self { questions, waiting, next: Arc::default() }
    }
}

impl Asker for Client {
    async fn ask(&self, keys: &[String]) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(number, sender);
        let question = Bytes::copy_from_slice(keys[0].as_bytes());
        self.questions.unbounded_send((number, question)).expect("the connection is there");
        answer.await.expect("the server answers");
    }
}

fn put(buffer: &mut BytesMut, number: u32, content: &[u8]) {
    buffer.put_u32((4 + content.len()) as u32);
    buffer.put_u32(number);
    buffer.put_slice(content);
}

/// Takes the next whole frame out of `buffer`.
fn take(buffer: &mut BytesMut) -> Option<(u32, Bytes)> {
    let len = buffer.get(..4).map(|mut len| len.get_u32() as usize)?;
    if buffer.len() < 4 + len {
        return None;
    }
    let mut frame = buffer.split_to(4 + len).freeze();
    frame.advance(4);
    let number = frame.get_u32();
    Some((number, frame))
}

async fn write(mut queue: mpsc::UnboundedReceiver<(u32, Bytes)>, mut output: OwnedWriteHalf) {
    let mut buffer = BytesMut::new();
    while let Some((number, question)) = queue.next().await {
        put(&mut buffer, number, &question);
        while buffer.len() < FULL
            && let Ok((number, question)) = queue.try_recv()
        {
            put(&mut buffer, number, &question);
        }
        output.write_all(&buffer).await.expect("the server reads");
        buffer.clear();
    }
}

async fn read(mut input: OwnedReadHalf, waiting: Waiting) {
    let mut buffer = BytesMut::with_capacity(FULL);
    while input.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
        while let Some((number, answer)) = take(&mut buffer) {
            let sender = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
            // Copied, as who keeps a value has to.
            let answer = Bytes::copy_from_slice(&answer);
            let _gone = sender.expect("an answer to a question").send(answer);
        }
    }
}

/// Answers every question with the same `value`, for ever. `listening` is told where.
pub(super) async fn serve(value: Bytes, listening: impl FnOnce(String)) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listening(listener.local_addr().expect("it listens").to_string());
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).expect("an open socket");
        // Ends with the client.
        tokio::spawn(answer(stream, value.clone()));
    }
}

async fn answer(stream: TcpStream, value: Bytes) -> io::Result<()> {
    let (mut input, mut output) = stream.into_split();
    let (mut questions, mut answers) = (BytesMut::with_capacity(FULL), BytesMut::with_capacity(FULL));
    while input.read_buf(&mut questions).await? > 0 {
        while let Some((number, _)) = take(&mut questions) {
            answers.reserve(HEAD + value.len());
            put(&mut answers, number, &value);
            if answers.len() >= FULL {
                output.write_all(&answers).await?;
                answers.clear();
            }
        }
        output.write_all(&answers).await?;
        answers.clear();
    }
    Ok(())
}
