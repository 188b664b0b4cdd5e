use commonplace_proto::ingest::ingest_report_request::Part;
use commonplace_proto::ingest::{IngestReportRequest, ReportHeader};
use commonplace_proto::journal::AppendRequest;
use http_body_util::{Full, StreamBody};
use proptest::prelude::*;
use prost::Message;

use super::*;

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[flag][..], &length, message].concat()
}

fn in_pieces(bytes: &[u8], piece: usize) -> Body {
    let pieces: Vec<_> = bytes
        .chunks(piece)
        .map(|part| Ok::<_, tonic::Status>(Frame::data(Bytes::copy_from_slice(part))))
        .collect();
    Body::new(StreamBody::new(futures::stream::iter(pieces)))
}

async fn rest_of(body: Body) -> Bytes {
    body.collect().await.unwrap().to_bytes()
}

fn append(project: &str) -> Vec<u8> {
    AppendRequest {
        request_id: "a".into(),
        project: project.into(),
        message: "m".repeat(300),
        ..AppendRequest::default()
    }
    .encode_to_vec()
}

#[tokio::test]
async fn the_first_message_is_read_and_the_body_stays_as_it_was() {
    let (first, second) = (append("shop"), append("other"));
    let bytes = [framed(0, &first), framed(0, &second)].concat();
    for piece in [1, 7, 100, bytes.len()] {
        let opened = open(&mut in_pieces(&bytes, piece)).await.unwrap();
        assert_eq!(opened.message, first);
        assert_eq!(rest_of(opened.body).await, bytes);
    }
}

#[tokio::test]
async fn what_is_no_message_is_refused() {
    for bytes in [
        Vec::new(),
        vec![0, 0, 0, 0, 9, 1],
        vec![0, 255, 255, 255, 255, 1],
        framed(1, b"not opened at the port"),
    ] {
        let opened = open(&mut Body::new(Full::from(bytes.clone()))).await;
        assert!(opened.is_err(), "{bytes:?}");
    }
}

#[test]
fn the_last_name_counts_as_it_does_for_the_decoder() {
    let first = append("shop");
    let second = AppendRequest {
        project: "secret".into(),
        ..AppendRequest::default()
    };
    let both = [first, second.encode_to_vec()].concat();
    assert_eq!(AppendRequest::decode(&both[..]).unwrap().project, "secret");
    assert_eq!(project_of(&both, &[2]).unwrap().as_str(), "secret");
    assert_eq!(project_of(&[], &[2]).unwrap().as_str(), "default");
    assert!(project_of(&append("NO"), &[2]).is_err());
}

#[test]
fn a_name_further_in_is_found() {
    let header = |project: &str| ReportHeader {
        project: project.into(),
        format: "junit".into(),
        ..ReportHeader::default()
    };
    let request = |project: &str| IngestReportRequest {
        part: Some(Part::Header(header(project))),
    };
    let message = request("shop").encode_to_vec();
    assert_eq!(project_of(&message, &[1, 1]).unwrap().as_str(), "shop");
    // Embedded messages of one field are merged.
    let twice = [request("shop"), request("")]
        .map(|part| part.encode_to_vec())
        .concat();
    let decoded = IngestReportRequest::decode(&twice[..]).unwrap();
    assert_eq!(decoded.part, Some(Part::Header(header("shop"))));
    assert_eq!(project_of(&twice, &[1, 1]).unwrap().as_str(), "shop");
}

proptest! {
    #[test]
    fn whatever_decodes_names_the_project_that_the_decoder_sees(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let found = text_at(&bytes, &[2]);
        if let Ok(decoded) = AppendRequest::decode(&bytes[..]) {
            // Groups alone are refused although a decoder may pass over them.
            if let Some(found) = found {
                prop_assert_eq!(found.unwrap_or_default(), decoded.project.as_bytes());
            }
        }
    }

    #[test]
    fn fields_in_any_order_are_seen_as_the_decoder_sees_them(
        names in proptest::collection::vec("[a-z]{0,6}", 1..4),
        numbers in proptest::collection::vec(1_u32..6, 1..4),
    ) {
        let mut bytes = Vec::new();
        for (name, number) in names.iter().zip(numbers.iter().cycle()) {
            prost::encoding::string::encode(*number, name, &mut bytes);
        }
        let decoded = AppendRequest::decode(&bytes[..]).unwrap();
        prop_assert_eq!(text_at(&bytes, &[2]).unwrap().unwrap_or_default(), decoded.project.as_bytes());
    }
}
