//! Streams of frames made by hand, in the representations that encoders of other makes choose.

use super::READ;
use super::replay::{replay, replay_watched};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// `groupcache%2Flocalhost:8044`, and with the byte replaced, in Huffman's code (made with the table of the RFC by a program of a few lines).
const CODED: &[u8] = b"\x9a\xc3\xdb\x59\x06\x49\xca\xa8\xb0\xd0\x72\x0e\x89\xce\x84\xdc\x78\x0d\x35";
const CODED_FIT: &[u8] = b"\x9a\xc3\xdb\x59\x06\x49\xca\xb0\xb0\xd0\x72\x0e\x89\xce\x84\xdc\x78\x0d\x35";
/// `groupcache/localhost:8044` and `groupcache-localhost:8044`.
const CODED_SLASH: &[u8] = b"\x9a\xc3\xdb\x59\x06\x49\xca\xc5\x07\x20\xe8\x9c\xe8\x4d\xc7\x80\xd3\x5f";
const CODED_SLASH_FIT: &[u8] = b"\x9a\xc3\xdb\x59\x06\x49\xca\xb5\x07\x20\xe8\x9c\xe8\x4d\xc7\x80\xd3\x5f";
const RAW: &[u8] = b"groupcache%2Flocalhost:8044";
const RAW_FIT: &[u8] = b"groupcache-2Flocalhost:8044";

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

fn headers(block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 1, block)
}

fn text(is_coded: bool, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("a short text");
    assert!(length < 0x7f);
    [&[length | if is_coded { 0x80 } else { 0 }], bytes].concat()
}

/// `:authority`, by its number in the static table, with a raw value.
fn spelled_out(authority: &[u8]) -> Vec<u8> {
    [&[0x41][..], &text(false, authority)].concat()
}

/// What the server reads of a client that sends `frames` behind the preface: the same, in whatever pieces it arrives.
#[track_caller]
fn read(frames: &[u8]) -> Vec<u8> {
    let sent = [PREFACE, SETTINGS, frames].concat();
    let at_once = replay([&sent[..]], 1 << 20);
    for piece in [1, 2, 3, 7, 8, 9, 10, 11, 64] {
        for room in [1, 5, 1 << 20] {
            assert_eq!(replay(sent.chunks(piece), room), at_once, "in pieces of {piece}, read by {room}");
        }
    }
    for at in 1..sent.len() {
        assert_eq!(replay([&sent[..at], &sent[at..]], 1 << 20), at_once, "cut at {at}");
    }
    assert_eq!(at_once[..PREFACE.len() + SETTINGS.len()], sent[..PREFACE.len() + SETTINGS.len()]);
    at_once[PREFACE.len() + SETTINGS.len()..].to_vec()
}

#[track_caller]
fn untouched(frames: &[u8]) {
    assert_eq!(read(frames), frames);
}

#[test]
fn an_authority_is_made_fit_however_it_is_spelled_out() {
    let coded_name = b"\xb8\x3b\x53\x39\xec\x32\x7d\x7f";
    for (is_coded, sent, expected) in
        [(false, RAW, RAW_FIT), (true, CODED, CODED_FIT), (true, CODED_SLASH, CODED_SLASH_FIT)]
    {
        for first in [0x40, 0x00, 0x10] {
            for name in [
                vec![first | 1],
                [&[first], &text(false, b":authority")[..]].concat(),
                [&[first], &text(true, coded_name)[..]].concat(),
            ] {
                // `:method POST`, `:scheme http`; behind the authority `te: trailers` and a field of the dynamic table.
                let block = |authority: &[u8]| {
                    let te = [text(false, b"te"), text(false, b"trailers")].concat();
                    [b"\x83\x86", &name[..], &text(is_coded, authority), b"\x40", &te, b"\xbf"].concat()
                };
                assert_eq!(read(&headers(&block(sent))), headers(&block(expected)), "{first:#x}");
            }
        }
    }
}

#[test]
fn nothing_but_an_authority_is_touched() {
    let path = text(false, b"/groupcachepb.GroupCache/Get");
    let mut block = vec![0x83, 0x86, 0x44];
    block.extend(path);
    // Names that are not it, values that look like it, and the next name in the static table.
    block.extend([&[0x00], &text(false, b"authority")[..], &text(false, RAW)].concat());
    block.extend([&[0x00], &text(true, CODED)[..], &text(true, CODED)].concat());
    block.extend([&[0x42][..], &text(false, RAW)].concat());
    block.extend([&[0x7f, 0x00][..], &text(false, RAW)].concat()); // Number 63, of the dynamic table.
    block.extend([0x20, 0x3f, 0xe1, 0x1f]); // Sizes of the dynamic table: 0, then 4096.
    untouched(&headers(&block));
    let fit = spelled_out(b"[::1]:8044");
    untouched(&headers(&fit));
    // The same bytes as a payload of other kinds of frame.
    let authority = spelled_out(RAW);
    for kind in [0, 2, 3, 4, 5, 6, 7, 8, 10, 0xff] {
        untouched(&[headers(&fit), frame(kind, 0xff, 1, &authority), headers(&fit)].concat());
    }
}

#[test]
fn padding_and_priority_are_no_part_of_the_block() {
    let fields = |authority: &[u8]| [&[0x83, 0x41][..], &text(false, authority)].concat();
    for flags in [0x8, 0x20, 0x28] {
        let framed = |authority: &[u8]| {
            let mut payload = Vec::new();
            payload.extend((flags & 0x8 != 0).then_some(3));
            // As an authority would begin, if it were the block.
            payload.extend([0x41, b'%', b'/', 0x41, 0x01].into_iter().filter(|_| flags & 0x20 != 0));
            payload.extend(fields(authority));
            payload.extend(b"%/%".iter().filter(|_| flags & 0x8 != 0));
            frame(HEADERS, END_HEADERS | flags, 1, &payload)
        };
        assert_eq!(read(&framed(RAW)), framed(RAW_FIT), "{flags:#x}");
    }
}

#[test]
fn a_block_is_made_fit_across_its_frames() {
    let block = |authority: &[u8]| [&[0x83, 0x41][..], &text(true, authority), &[0x86]].concat();
    for cut in 0..=block(CODED).len() {
        let framed = |authority: &[u8]| {
            let block = block(authority);
            let (first, rest) = block.split_at(cut);
            let second = rest.len() / 2;
            [
                frame(HEADERS, 0, 3, first),
                frame(CONTINUATION, 0, 3, &rest[..second]),
                frame(CONTINUATION, 0, 3, b""),
                frame(CONTINUATION, END_HEADERS, 3, &rest[second..]),
                headers(&block),
            ]
            .concat()
        };
        assert_eq!(read(&framed(CODED)), framed(CODED_FIT), "cut at {cut}");
    }
}

#[test]
fn malformed_blocks_are_left_to_the_library_to_refuse_and_the_next_is_made_fit() {
    let padded =
        |padding: u8, block: &[u8]| frame(HEADERS, END_HEADERS | 8, 1, &[&[padding], block].concat());
    let unfit = spelled_out(RAW);
    let mut cut_short = unfit.clone();
    cut_short.pop();
    for malformed in [
        headers(&cut_short),
        headers(&[&unfit[..], b"\x41"].concat()),
        headers(&[&unfit[..], b"\xff\xff\xff\xff\xff\xff\x0f"].concat()), // An integer without end.
        headers(&[&unfit[..], b"\x41\x7f\xff\xff\xff\x7f"].concat()),     // A string of 268 million bytes.
        headers(&[&[0x41][..], &text(true, &CODED[..9])].concat()),       // Bits that are no code's.
        padded(unfit.len() as u8 + 1, &unfit),
        frame(HEADERS, END_HEADERS | 0x20, 1, b"%/%/"),
        frame(HEADERS, END_HEADERS | 8, 1, b""),
    ] {
        let framed = |authority: &[u8]| [&malformed[..], &headers(&spelled_out(authority))].concat();
        assert_eq!(read(&framed(RAW)), framed(RAW_FIT), "{malformed:x?}");
    }
}

#[test]
fn frames_in_an_order_that_is_none_are_passed_on_to_the_end() {
    let unfit = spelled_out(RAW);
    for wrong in [frame(0, 0, 1, b""), frame(CONTINUATION, END_HEADERS, 3, b""), headers(&unfit)] {
        untouched(&[frame(HEADERS, 0, 1, &unfit), wrong, headers(&unfit)].concat());
    }
    // A continuation of nothing: the library ends the connection over it.
    let stray =
        |authority| [frame(CONTINUATION, END_HEADERS, 1, &unfit), headers(&spelled_out(authority))].concat();
    assert_eq!(read(&stray(RAW)), stray(RAW_FIT));
}

#[test]
fn what_does_not_begin_as_http_2_does_is_passed_on_to_the_end() {
    let unfit = headers(&spelled_out(RAW));
    for start in
        [&b"GET / HTTP/1.1\r\nhost: a%2Fb\r\n\r\n"[..], b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r", b"%/"]
    {
        let sent = [start, &unfit].concat();
        for piece in [1, 9, 1000] {
            assert_eq!(replay(sent.chunks(piece), 100), sent);
        }
    }
}

#[test]
fn what_is_incomplete_when_the_client_goes_is_passed_on() {
    let sent = [PREFACE, SETTINGS, &headers(&spelled_out(RAW))].concat();
    for end in 0..sent.len() {
        assert_eq!(replay(sent[..end].chunks(10), 100), sent[..end]);
    }
}

#[test]
fn a_block_over_the_bound_is_not_held_back() {
    let filler = |count: usize| -> Vec<u8> {
        let field = [&[0x00][..], &text(false, b"x"), &text(false, &[b'y'; 97])].concat();
        field.iter().copied().cycle().take(field.len() * count).collect()
    };
    // As one frame, and as many: the bound is of both together, empty frames included.
    let small = [filler(600), spelled_out(RAW)].concat();
    let small_fit = [filler(600), spelled_out(RAW_FIT)].concat();
    let piecemeal = |block: &[u8], piece: usize| -> Vec<u8> {
        let mut frames = frame(HEADERS, 0, 1, b"");
        for part in block.chunks(piece) {
            frames.extend(frame(CONTINUATION, 0, 1, part));
        }
        frames.extend(frame(CONTINUATION, END_HEADERS, 1, b""));
        frames
    };
    let large = [spelled_out(RAW), filler(660)].concat();
    let next = [headers(&spelled_out(RAW)), headers(&spelled_out(RAW_FIT))];
    for (sent, expected) in [
        (headers(&small), headers(&small_fit)),
        (piecemeal(&small, 10_000), piecemeal(&small_fit, 10_000)),
        (piecemeal(&small, 10), piecemeal(&small, 10)),
        (headers(&large), headers(&large)),
        (piecemeal(&large, 10_000), piecemeal(&large, 10_000)),
    ] {
        let sent = [PREFACE, &sent, &next[0]].concat();
        for (piece, room) in [(sent.len(), 1 << 20), (1000, 8192), (16 * 1024, 100), (70_000, 70_000)] {
            assert!(replay(sent.chunks(piece), room) == [PREFACE, &expected, &next[1]].concat());
        }
    }
}

#[test]
fn a_connection_takes_the_room_of_a_block_and_a_read_at_most_and_gives_it_back() {
    let block = [&spelled_out(RAW)[..], &[0x82; 60_000]].concat(); // `:method GET`, again and again.
    let small = headers(&spelled_out(RAW_FIT)).repeat(100);
    let sent = [PREFACE, &headers(&block), &small].concat();
    let (mut most, mut last) = (0, 0);
    replay_watched(sent.chunks(100), 100, |connection| {
        last = connection.buffer.capacity();
        most = most.max(last);
    });
    assert!((60_000..=64 * 1024 + 9 + READ).contains(&most), "{most}");
    assert_eq!(last, READ);
}
