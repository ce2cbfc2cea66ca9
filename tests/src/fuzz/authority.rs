//! What the server's HTTP/2 library gets to read of a client whose authority is none.

use std::ops::Range;

use arbitrary::{Result, Unstructured};
use groupcache_runtime::__fuzz as runtime;
use httlib_hpack::{Decoder, Encoder};

/// Requests that an encoder of another make has written decode to the same headers with the authority made fit; whatever else is sent passes as
/// it is. In any pieces the result is the same, as long as what was sent, and fit.
pub fn authority(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let _ended = run(&mut bytes);
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

fn run(bytes: &mut Unstructured<'_>) -> Result<()> {
    if bytes.arbitrary()? {
        let mut client = Client::new();
        // More in one input finds nothing more.
        for _ in 0..bytes.int_in_range(1..=6)? {
            client.say(bytes)?;
        }
        let read = replayed(bytes, &client.sent)?;
        client.check(&read);
    } else {
        let mut sent = if bytes.ratio(7, 8)? { PREFACE.to_vec() } else { Vec::new() };
        let [cut, room] = [bytes.int_in_range(1..=40)?, bytes.int_in_range(1..=40)?];
        while !bytes.is_empty() {
            disorder(bytes, &mut sent)?;
        }
        let read = replay(&sent, cut, room);
        check_changes(&sent, &read);
    }
    Ok(())
}

/// A frame, of those that matter for the most part, with anything in it; or no frame.
fn disorder(bytes: &mut Unstructured<'_>, sent: &mut Vec<u8>) -> Result<()> {
    if bytes.ratio(1, 32)? {
        sent.extend(bytes.bytes(bytes.len().min(16))?);
        return Ok(());
    }
    let [kind, flags]: [u8; 2] = bytes.arbitrary()?;
    let kind = [HEADERS, HEADERS, CONTINUATION, kind][usize::from(kind >> 6)];
    let length = usize::from(bytes.int_in_range(0..=80_u8)?).min(bytes.len());
    frame(sent, kind, flags, 1, bytes.bytes(length)?);
    Ok(())
}

fn frame(sent: &mut Vec<u8>, kind: u8, flags: u8, stream: u8, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    sent.extend([&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat());
}

fn replayed(bytes: &mut Unstructured<'_>, sent: &[u8]) -> Result<Vec<u8>> {
    Ok(replay(sent, bytes.int_in_range(1..=100)?, bytes.int_in_range(1..=100)?))
}

/// What is read: the same at once and in pieces of `cut` bytes, and the same again when it is sent as it was read.
fn replay(sent: &[u8], cut: usize, room: usize) -> Vec<u8> {
    let at_once = |sent: &[u8]| runtime::authority((!sent.is_empty()).then_some(sent), 1 << 20);
    let read = at_once(sent);
    assert_eq!(read.len(), sent.len());
    assert_eq!(read, runtime::authority(sent.chunks(cut), room), "in pieces of {cut}, read by {room}");
    assert_eq!(read, at_once(&read), "what is fit stays");
    read
}

/// Nothing differs but a `%` or a `/` that became a `-`: a byte, or six bits of Huffman's code.
fn check_changes(sent: &[u8], read: &[u8]) {
    let bits = |from: &[u8], at: usize| -> u32 {
        (at..at + 6).fold(0, |code, bit| {
            let byte = from.get(bit / 8).copied().unwrap_or_default();
            (code << 1) | u32::from((byte >> (7 - bit % 8)) & 1)
        })
    };
    let coded = |at: usize, code: u32| bits(sent, at) == code && bits(read, at) == 0x16;
    let mut at = 0;
    while at < sent.len() * 8 {
        let byte = at / 8;
        let is_fit = sent[byte] == read[byte] || b"%/".contains(&sent[byte]) && read[byte] == b'-';
        if at % 8 == 0 && is_fit {
            at += 8;
        } else if ((sent[byte] ^ read[byte]) << (at % 8)) & 0x80 == 0 {
            at += 1;
        } else if at >= 4 && coded(at - 4, 0x15) {
            at += 2;
        } else if at >= 2 && coded(at - 2, 0x18) {
            at += 4;
        } else {
            panic!("bit {at}: {:x?} became {:x?}", &sent[byte..], &read[byte..]);
        }
    }
}

type Field = (Vec<u8>, Vec<u8>);

/// A client that keeps to the rules, and what it means.
struct Client {
    encoder: Encoder<'static>,
    sent: Vec<u8>,
    /// For each header block where it is in what was sent, and its fields.
    blocks: Vec<(Vec<Range<usize>>, Vec<Field>)>,
}

impl Client {
    fn new() -> Self {
        let mut sent = PREFACE.to_vec();
        frame(&mut sent, 4, 0, 0, b"");
        Self { encoder: Encoder::with_dynamic_size(4096), sent, blocks: Vec::new() }
    }

    /// Sends a request, or something else.
    fn say(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        if bytes.ratio(1, 4)? {
            // Any kind of frame that has no header block. The payload may look like one.
            let kind = *bytes.choose(&[0, 2, 3, 4, 5, 6, 7, 8, 10, 255])?;
            let payload =
                *bytes.choose(&[&b"\x41\x03%/%"[..], b"", b"\0\0\x05\x01\x04\0\0\0\x01\x41\x03%/%"])?;
            frame(&mut self.sent, kind, bytes.arbitrary()?, 1, payload);
            return Ok(());
        }
        let (mut block, mut fields) = (Vec::new(), Vec::new());
        if bytes.ratio(1, 8)? {
            let size = *bytes.choose(&[0, 64, 100, 4096])?;
            self.encoder.update_max_dynamic_size(size, &mut block).expect("a size");
        }
        let count = bytes.int_in_range(1..=8)?;
        for _ in 0..count {
            let field = field(bytes)?;
            self.encode(bytes, field.clone(), &mut block)?;
            fields.push(field);
        }
        let ranges = self.cut(bytes, &block)?;
        self.blocks.push((ranges, fields));
        Ok(())
    }

    fn encode(&mut self, bytes: &mut Unstructured<'_>, field: Field, block: &mut Vec<u8>) -> Result<()> {
        let coding = bytes.int_in_range(0..=Encoder::HUFFMAN_NAME | Encoder::HUFFMAN_VALUE)?;
        let storing = *bytes.choose(&[0, Encoder::WITH_INDEXING, Encoder::NEVER_INDEXED])?;
        let shortest = *bytes.choose(&[0, Encoder::BEST_FORMAT])?;
        let input = (field.0, field.1, coding | storing | shortest);
        self.encoder.encode(input, block).expect("a field");
        Ok(())
    }

    /// Sends a block in one frame or in many; answers where it is.
    fn cut(&mut self, bytes: &mut Unstructured<'_>, block: &[u8]) -> Result<Vec<Range<usize>>> {
        let (mut ranges, mut rest, mut kind) = (Vec::new(), block, HEADERS);
        loop {
            let count = if bytes.ratio(1, 2)? { rest.len() } else { bytes.int_in_range(0..=rest.len())? };
            let (now, later) = rest.split_at(count);
            let mut flags = if later.is_empty() { 0x4 } else { 0 };
            let (mut head, mut tail) = (Vec::new(), Vec::new());
            if kind == HEADERS && bytes.arbitrary()? {
                flags |= 0x8;
                tail = vec![b'/'; bytes.int_in_range(0..=9)?];
                head.extend(u8::try_from(tail.len()));
            }
            if kind == HEADERS && bytes.arbitrary()? {
                flags |= 0x20;
                head.extend(b"%/%/\x41");
            }
            frame(&mut self.sent, kind, flags, 1, &[&head, now, &tail].concat());
            let end = self.sent.len() - tail.len();
            ranges.push(end - now.len()..end);
            if later.is_empty() {
                return Ok(ranges);
            }
            (rest, kind) = (later, CONTINUATION);
        }
    }

    /// What is outside of header blocks is as it was sent; these decode, by the tables that the server keeps, to what was meant.
    fn check(&self, read: &[u8]) {
        let mut decoder = Decoder::with_dynamic_size(4096);
        let mut at = 0;
        for (ranges, fields) in &self.blocks {
            let mut block = Vec::new();
            for range in ranges {
                assert_eq!(read[at..range.start], self.sent[at..range.start]);
                block.extend(&read[range.clone()]);
                at = range.end;
            }
            let mut decoded = Vec::new();
            decoder.decode(&mut block, &mut decoded).expect("it was encoded here");
            let decoded: Vec<Field> = decoded.into_iter().map(|(name, value, _)| (name, value)).collect();
            let expected: Vec<Field> = fields.iter().cloned().map(made_fit).collect();
            assert_eq!(decoded, expected);
        }
        assert_eq!(read[at..], self.sent[at..]);
    }
}

fn made_fit((name, mut value): Field) -> Field {
    if name == b":authority" {
        value.iter_mut().filter(|byte| b"%/".contains(byte)).for_each(|byte| *byte = b'-');
    }
    (name, value)
}

/// A field of a request. An authority in every second.
fn field(bytes: &mut Unstructured<'_>) -> Result<Field> {
    let names = [":method", ":path", "te", "user-agent", "authority", ":authorita", "grpc-timeout", "x-%/"];
    let name = if bytes.arbitrary()? { ":authority" } else { bytes.choose(&names)? };
    let value = if bytes.ratio(3, 4)? {
        let values = ["groupcache%2Flocalhost:8044", "groupcache/localhost:8044", "%/", "10.0.0.1:6324", ""];
        bytes.choose(&values)?.as_bytes().to_vec()
    } else {
        let length = bytes.int_in_range(0..=200)?;
        bytes.bytes(bytes.len().min(length))?.to_vec()
    };
    Ok((name.as_bytes().to_vec(), value))
}
