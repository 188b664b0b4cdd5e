//! gRPC and gRPC-web calls whose frames are not what they should be.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use commonplace_tests::dice::Dice;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bodies::is_answered;
use crate::server::Served;
use crate::{cases, spoil};

/// Paths of every rpc, and some that are none.
fn paths() -> Vec<String> {
    let services = commonplace_proto::pool().services();
    let methods = services.flat_map(|service| service.methods().collect::<Vec<_>>());
    let of = |method: prost_reflect::MethodDescriptor| {
        format!("/{}/{}", method.parent_service().full_name(), method.name())
    };
    let mut paths: Vec<String> = methods
        .map(of)
        .filter(|path| !path.ends_with("/Rebuild"))
        .collect();
    paths.extend(
        [
            "/",
            "/a.B/C",
            "/commonplace.journal.v1.JournalService/",
            "//x",
        ]
        .map(String::from),
    );
    paths
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Something like a message.
fn message(dice: &mut Dice, depth: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..dice.below(6) {
        let number = 1 + dice.below(13) as u64;
        let kind = *dice.pick(&[0, 2, 2, 2, 2, 1, 5, 3]);
        varint(number << 3 | kind, &mut out);
        match kind {
            0 => varint(dice.roll() >> dice.below(64), &mut out),
            1 => out.extend(dice.bytes(8)),
            5 => out.extend(dice.bytes(4)),
            2 => {
                let inner = match dice.below(4) {
                    0 if depth < 5 => message(dice, depth + 1),
                    1 => spoil::text(dice).into_bytes(),
                    2 => b"fuzz".to_vec(),
                    _ => {
                        let count = dice.below(12);
                        dice.bytes(count)
                    }
                };
                varint(inner.len() as u64, &mut out);
                out.extend(inner);
            }
            _ => {}
        }
    }
    if dice.one_in(6) {
        out = spoil::bytes(out, dice);
    }
    out
}

/// One or more messages with the heads of gRPC, of which this and that is wrong.
fn framed(dice: &mut Dice) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..1 + dice.below(3) {
        let message = message(dice, 0);
        let length = message.len() as u32;
        out.push(*dice.pick(&[0, 0, 0, 0, 0, 1, 2, 0x80, 0xff]));
        let length = match dice.below(10) {
            0 => length.saturating_sub(1),
            1 => length + 1,
            2 => u32::MAX,
            3 => 64 << 20,
            _ => length,
        };
        out.extend(length.to_be_bytes());
        out.extend(message);
    }
    if dice.one_in(8) {
        let at = dice.below(out.len() + 1);
        out.truncate(at);
    }
    out
}

const CONTENT_TYPES: [&str; 8] = [
    "application/grpc-web+proto",
    "application/grpc-web",
    "application/grpc-web-text",
    "application/grpc-web-text+proto",
    "application/grpc-web+json",
    "application/grpc",
    "application/grpcx",
    "application/grpc-web-text; charset=\"",
];

#[tokio::test(flavor = "multi_thread")]
async fn grpc_web_of_any_kind_is_answered() {
    let served = Served::open().await;
    let paths = paths();
    for (number, mut dice) in cases() {
        let (path, kind) = (dice.pick(&paths).clone(), *dice.pick(&CONTENT_TYPES));
        let mut body = framed(&mut dice);
        if kind.contains("text") && !dice.one_in(4) {
            body = STANDARD.encode(&body).into_bytes();
        }
        if dice.one_in(6) {
            body = spoil::bytes(body, &mut dice);
        }
        let encoding = *dice.pick(&["identity", "gzip", "zstd", "br", "", "gzip, zstd"]);
        let headers = [
            format!("content-type: {kind}").into_bytes(),
            b"grpc-timeout: 1S".to_vec(),
            b"te: trailers".to_vec(),
            format!("grpc-encoding: {encoding}").into_bytes(),
        ];
        let (status, answer) = served.call(&format!("POST {path}"), &headers, &body).await;
        is_answered(
            &format!("case {number}: {path} {kind} {body:02x?}"),
            status,
            &answer,
        );
        served.did_not_panic(&format!("case {number}: {path}"));
    }
    served.close("gRPC-web of any kind").await;
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut out = length[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// Header fields as HPACK writes them without tables and without Huffman's code; at most 126 bytes each.
fn fields(all: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in all {
        out.push(0);
        for text in [name, value] {
            out.push(text.len() as u8);
            out.extend(text.as_bytes());
        }
    }
    out
}

const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GO_AWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Reads frames until the first stream ends; whether it did, or the connection with it.
async fn ends(stream: &mut TcpStream) -> bool {
    let reading = async {
        loop {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).await.is_err() {
                return true;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            if stream.read_exact(&mut payload).await.is_err() {
                return true;
            }
            let ended = match head[3] {
                0 | HEADERS => head[4] & END_STREAM != 0,
                RESET | GO_AWAY => true,
                _ => false,
            };
            if ended {
                return true;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(8), reading)
        .await
        .unwrap_or(false)
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_of_any_kind_is_answered() {
    let served = Served::open().await;
    let paths = paths();
    for (number, mut dice) in cases() {
        let path = dice.pick(&paths).clone();
        let authority = served.address.to_string();
        let kind = *dice.pick(&[
            "application/grpc",
            "application/grpc+proto",
            "application/grpc+x",
        ]);
        let encoding = *dice.pick(&["identity", "gzip", "zstd", "br"]);
        let head = fields(&[
            (":method", "POST"),
            (":scheme", "http"),
            (":path", &path),
            (":authority", &authority),
            ("content-type", kind),
            ("te", *dice.pick(&["trailers", "", "gzip"])),
            ("grpc-encoding", encoding),
            ("grpc-timeout", "400m"),
        ]);
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &[]));
        bytes.extend(frame(HEADERS, END_HEADERS, 1, &head));
        let body = framed(&mut dice);
        let pieces: Vec<&[u8]> = match dice.one_in(2) {
            true => body.chunks(1 + dice.below(40)).collect(),
            false => body.chunks(16_000).collect(),
        };
        for piece in pieces {
            bytes.extend(frame(0, 0, 1, piece));
        }
        // Whoever takes a call back, or says what is no frame, is not answered by one.
        let (reset, spoiled) = (dice.one_in(10), dice.one_in(8));
        match dice.below(10) {
            _ if reset => bytes.extend(frame(RESET, 0, 1, &8_u32.to_be_bytes())),
            // Never ends: its time does.
            0 => {}
            _ => bytes.extend(frame(0, END_STREAM, 1, &[])),
        }
        if spoiled {
            let tail = bytes.split_off(24);
            bytes.extend(spoil::bytes(tail, &mut dice));
        }
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let _ = stream.write_all(&bytes).await;
        if reset || spoiled {
            let _ = stream.shutdown().await;
        }
        let ended = ends(&mut stream).await;
        assert!(ended, "case {number}: {path} {kind}: it stands still");
        served.did_not_panic(&format!("case {number}: {path} {kind} {body:02x?}"));
    }
    served.close("gRPC of any kind").await;
}
