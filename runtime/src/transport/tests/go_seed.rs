//! A Go node of the seed that has found this one through etcd: its requests, byte for byte as its HTTP/2 library encodes them.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const SETTINGS: u8 = 0x4;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// `groupcache%2Flocalhost:8044` and `groupcache/localhost:8044`, in Huffman's code and raw: header values with their lengths.
const AUTHORITIES: [&[u8]; 4] = [
    b"\x93\x9a\xc3\xdb\x59\x06\x49\xca\xa8\xb0\xd0\x72\x0e\x89\xce\x84\xdc\x78\x0d\x35",
    b"\x92\x9a\xc3\xdb\x59\x06\x49\xca\xc5\x07\x20\xe8\x9c\xe8\x4d\xc7\x80\xd3\x5f",
    b"\x1bgroupcache%2Flocalhost:8044",
    b"\x19groupcache/localhost:8044",
];

/// The headers of its first request on a connection: `:method POST`, `:scheme http`, `:path`, `:authority`, `content-type application/grpc`,
/// `user-agent grpc-go/1.57.0`, `te trailers`, `grpc-timeout 9999972u`. All but the first two go into the table of recent headers.
fn first_block(authority: &[u8]) -> Vec<u8> {
    let path = b"\x94\x62\x6b\x0f\x6d\x64\x19\x27\x2d\x71\xaf\x8a\xc3\xdb\x5d\xe1\x92\x72\xb1\x88\xa9";
    let others = b"\x5f\x8b\x1d\x75\xd0\x62\x0d\x26\x3d\x4c\x4d\x65\x64\x7a\x8a\x9a\xca\xc8\xb4\xc7\x60\x2b\xb6\xea\xe0\
        \x40\x02te\x86\x4d\x83\x35\x05\xb1\x1f\x40\x89\x9a\xca\xc8\xb2\x4d\x49\x4f\x6a\x7f\x86\x7d\xf7\xdf\x7d\xd1\x5b";
    [b"\x83\x86\x44", &path[..], b"\x41", authority, others].concat()
}

/// The same again: its six own fields by their numbers in that table, the oldest first.
const AGAIN: &[u8] = b"\x83\x86\xc3\xc2\xc1\xc0\xbf\xbe";

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Asks for the key of group `g`; answers the bytes of the response's message, and whether trailers came behind it.
async fn get(connection: &mut TcpStream, stream: u8, block: &[u8], key: &str) -> (Vec<u8>, bool) {
    let length = |text: &[u8]| u8::try_from(text.len()).expect("a short text");
    let message = [b"\x0a\x01g\x12", &[length(key.as_bytes())][..], key.as_bytes()].concat();
    let body = [&[0, 0, 0, 0, length(&message)], &message[..]].concat();
    let request =
        [frame(HEADERS, END_HEADERS, stream, block), frame(DATA, END_STREAM, stream, &body)].concat();
    connection.write_all(&request).await.expect("the server listens");

    let mut answer = Vec::new();
    loop {
        let mut header = [0; 9];
        connection.read_exact(&mut header).await.expect("a frame");
        let [a, b, c, kind, flags, _, _, _, of] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        connection.read_exact(&mut payload).await.expect("its payload");
        match kind {
            DATA if of == stream => answer.extend(payload),
            HEADERS if of == stream && flags & END_STREAM != 0 => return (answer, true),
            0x3 | 0x7 => panic!("the request is refused: frame {header:x?} with {payload:x?}"),
            _ => {}
        }
        if of == stream && flags & END_STREAM != 0 {
            return (answer, false);
        }
    }
}

#[tokio::test]
async fn a_go_node_that_names_its_peers_by_service_is_served_again_and_again_on_one_connection() {
    let node = node().await;
    for authority in AUTHORITIES {
        let mut connection = TcpStream::connect(&node.addr).await.expect("the server listens");
        let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(SETTINGS, 0, 0, b"")[..]].concat();
        connection.write_all(&hello).await.expect("the server listens");
        connection.write_all(&frame(SETTINGS, 1, 0, b"")).await.expect("the server listens");
        for (stream, block) in [(1, &first_block(authority)[..]), (3, AGAIN), (5, AGAIN)] {
            let key = format!("hit {stream}");
            let got = tokio::time::timeout(SOON, get(&mut connection, stream, block, &key)).await;
            let expected = [&[0, 0, 0, 0, 7, 0x0a, 5], key.as_bytes()].concat();
            assert_eq!(got.expect("in time"), (expected, true), "{authority:x?}, stream {stream}");
        }
    }
}
