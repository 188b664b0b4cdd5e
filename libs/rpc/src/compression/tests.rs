use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use proptest::prelude::*;

use super::messages::Messages;
use super::*;
use crate::server::MESSAGE_BYTES;

const BOTH: [Encoding; 2] = [Encoding::Gzip, Encoding::Zstd];

/// Messages as they are on the wire, none compressed.
fn wire(messages: &[Vec<u8>]) -> Vec<u8> {
    let framed = |message: &Vec<u8>| {
        let length = (message.len() as u32).to_be_bytes();
        [&[0][..], &length, message].concat()
    };
    messages.iter().flat_map(framed).collect()
}

/// A body that comes in pieces of a size.
fn body(bytes: &[u8], piece: usize) -> Body {
    let frame = |part: &[u8]| Ok::<_, tonic::Status>(Frame::data(part.to_vec().into()));
    let frames: Vec<_> = bytes.chunks(piece.max(1)).map(frame).collect();
    Body::new(StreamBody::new(tokio_stream::iter(frames)))
}

async fn bytes(body: Body) -> Result<Vec<u8>, tonic::Status> {
    Ok(body.collect().await?.to_bytes().to_vec())
}

fn text(length: usize) -> Vec<u8> {
    b"the flaky test fails now and then "
        .iter()
        .copied()
        .cycle()
        .take(length)
        .collect()
}

proptest! {
    #[test]
    fn what_is_made_smaller_opens_to_the_same(
        lengths in prop::collection::vec((0_usize..6_000, any::<bool>()), 0..6),
        piece in 1_usize..4_000,
        floor in 0_usize..3_000,
    ) {
        let message = |(length, random): &(usize, bool)| match random {
            // Bytes that do not get smaller.
            true => (0..*length).map(|n| (blake3::hash(&n.to_le_bytes()).as_bytes())[0]).collect(),
            false => text(*length),
        };
        let messages: Vec<Vec<u8>> = lengths.iter().map(message).collect();
        let plain = wire(&messages);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for encoding in BOTH {
                let shrunk = Messages::shrink(body(&plain, piece), encoding, floor);
                let shrunk = bytes(Body::new(shrunk)).await.unwrap();
                prop_assert!(shrunk.len() <= plain.len());
                let opened = Messages::open(body(&shrunk, piece), encoding, Inflow::default());
                prop_assert_eq!(&bytes(Body::new(opened)).await.unwrap(), &plain);
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn short_messages_go_as_they_are_and_long_ones_get_smaller() {
    for encoding in BOTH {
        let messages = wire(&[text(99), text(100_000)]);
        let shrunk = Messages::shrink(body(&messages, 1 << 20), encoding, 100);
        let shrunk = bytes(Body::new(shrunk)).await.unwrap();
        assert_eq!(shrunk[..104], messages[..104]);
        assert_eq!(shrunk[104], 1);
        assert!(shrunk.len() < 2_000, "{encoding:?}: {}", shrunk.len());
    }
}

#[tokio::test]
async fn a_message_that_would_be_too_large_is_not_opened() {
    for encoding in BOTH {
        let bomb = encoding.compress(&vec![0; MESSAGE_BYTES + 1]).unwrap();
        assert!(bomb.len() < 1 << 20);
        let length = (bomb.len() as u32).to_be_bytes();
        let framed = [&[1][..], &length, &bomb].concat();
        let opened = Messages::open(body(&framed, 1 << 16), encoding, Inflow::default());
        let status = bytes(Body::new(opened)).await.unwrap_err();
        let failure = Failure::from_status(&status);
        assert_eq!(failure.reason, "MESSAGE_TOO_LARGE");
    }
}

/// A refused call is read on without being opened, and a stream's messages are as small as it was told.
#[tokio::test]
async fn what_is_opened_is_what_its_reader_wants() {
    for encoding in BOTH {
        let framed = [&[1][..], &5_u32.to_be_bytes(), b"wrong", b"and more"].concat();
        let inflow = Inflow::default();
        let passed = Messages::open(body(&framed, 3), encoding, inflow.clone());
        inflow.unwanted();
        assert_eq!(bytes(Body::new(passed)).await.unwrap(), framed);

        let small = encoding.compress(&text(3_000)).unwrap();
        let length = (small.len() as u32).to_be_bytes();
        let framed = [&[1][..], &length, &small].concat();
        let inflow = Inflow::default();
        inflow.at_most(2_999);
        let opened = Messages::open(body(&framed, 100), encoding, inflow);
        let status = bytes(Body::new(opened)).await.unwrap_err();
        assert_eq!(Failure::from_status(&status).reason, "MESSAGE_TOO_LARGE");
    }
}

#[tokio::test]
async fn what_is_not_what_it_says_is_refused_by_name() {
    for encoding in BOTH {
        let framed = [&[1, 0, 0, 0, 4][..], b"abcd"].concat();
        let opened = Messages::open(body(&framed, 3), encoding, Inflow::default());
        let status = bytes(Body::new(opened)).await.unwrap_err();
        let failure = Failure::from_status(&status);
        assert_eq!(failure.reason, "MESSAGE_UNREADABLE", "{failure:?}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_stays_broken() {
    for encoding in BOTH {
        let whole = wire(&[text(5_000)]);
        let shrunk = Messages::shrink(body(&whole[..3_000], 700), encoding, 100);
        let passed = bytes(Body::new(shrunk)).await.unwrap();
        assert_eq!(passed, whole[..3_000]);
    }
}

#[test]
fn the_quicker_encoding_is_preferred_among_those_named() {
    let check = |names: &'static str, expected: Option<Encoding>| {
        let names = HeaderValue::from_static(names);
        assert_eq!(Encoding::preferred(&names), expected, "{names:?}");
    };
    check("identity, deflate, gzip", Some(Encoding::Gzip));
    check("gzip,zstd", Some(Encoding::Zstd));
    check("identity", None);
    check("deflate;q=1,br", None);
}

#[test]
fn grpc_web_is_left_alone() {
    let check = |content_type: &'static str, expected: bool| {
        let headers = [("content-type", content_type)];
        let headers = headers.into_iter().map(|(name, value)| {
            (
                http::HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        assert_eq!(
            is_plain_grpc(&headers.collect()),
            expected,
            "{content_type}"
        );
    };
    check("application/grpc", true);
    check("application/grpc+proto", true);
    check("application/grpc-web", false);
    check("application/grpc-web-text+proto", false);
    check("application/json", false);
}
