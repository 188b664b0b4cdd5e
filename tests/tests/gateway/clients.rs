//! Clients that are not ours: generated code over a transport of its own, with the limits that it has by itself.

use commonplace_proto::common::EventDraft;
use commonplace_proto::ingest::IngestEventsRequest;
use commonplace_proto::ingest::ingest_service_client::IngestServiceClient;
use commonplace_proto::journal::QueryEventsRequest;
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_tests::proxy::{Direction, Proxy};
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;

use crate::common::Served;

/// A channel as other people's programs have it, and what counts its bytes.
async fn foreign(served: &Served) -> (Channel, Proxy) {
    let proxy = Proxy::start(served.address.parse().unwrap()).await.unwrap();
    let address = format!("http://{}", proxy.address());
    let endpoint = Channel::from_shared(address).unwrap();
    (endpoint.connect().await.unwrap(), proxy)
}

/// Events of a size, with texts that get smaller.
fn events(count: usize, bytes: usize) -> IngestEventsRequest {
    let event = |number: usize| EventDraft {
        artifact_type: "runlog".into(),
        title: format!("run {number}"),
        text: "step ok, nothing to see here\n".repeat(bytes / 29),
        ..Default::default()
    };
    IngestEventsRequest {
        events: (0..count).map(event).collect(),
        ..Default::default()
    }
}

const SIZE: u64 = 500_000;

/// Writes and reads events of [`SIZE`] bytes together; gives the bytes on the wire each way.
async fn write_and_read(served: &Served, encoding: Option<CompressionEncoding>) -> (u64, u64) {
    let (channel, proxy) = foreign(served).await;
    let mut ingest = IngestServiceClient::new(channel.clone());
    let mut journal = JournalServiceClient::new(channel);
    if let Some(encoding) = encoding {
        ingest = ingest.send_compressed(encoding);
        journal = journal.accept_compressed(encoding);
    }
    ingest
        .ingest_events(events(10, SIZE as usize / 10))
        .await
        .unwrap();
    let answer = journal.query_events(QueryEventsRequest::default()).await;
    let answer = answer.unwrap().into_inner();
    let texts = answer.events.iter().map(|event| event.text.len() as u64);
    assert!(texts.sum::<u64>() > SIZE - 1_000);
    (
        proxy.carried(Direction::ToServer),
        proxy.carried(Direction::ToClient),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_asks_for_is_compressed_both_ways_and_nothing_else() {
    let (up, down) = write_and_read(&Served::start().await, None).await;
    assert!(up > SIZE - 1_000 && down > SIZE - 1_000, "{up} and {down}");
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let (up, down) = write_and_read(&Served::start().await, Some(encoding)).await;
        assert!(
            up < SIZE / 10 && down < SIZE / 10,
            "{encoding:?}: {up} and {down}"
        );
    }
    let never = Served::with(|options| options.gateway.compress_from_bytes = 0).await;
    let (up, down) = write_and_read(&never, Some(CompressionEncoding::Gzip)).await;
    assert!(up < SIZE / 10 && down > SIZE - 1_000, "{up} and {down}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoding_that_we_do_not_read_is_named_with_those_that_we_do() {
    let served = Served::start().await;
    let (channel, _proxy) = foreign(&served).await;
    let mut journal = JournalServiceClient::new(channel);
    let mut request = tonic::Request::new(QueryEventsRequest::default());
    let snappy = "snappy".parse().unwrap();
    request.metadata_mut().insert("grpc-encoding", snappy);
    let refused = journal.query_events(request).await.unwrap_err();
    let failure = commonplace_rpc::Failure::from_status(&refused);
    assert_eq!(failure.reason, "ENCODING_UNKNOWN", "{refused:?}");
    let reads = refused.metadata().get("grpc-accept-encoding").unwrap();
    assert_eq!(reads, "identity,gzip,zstd");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_large_events_are_read_without_raising_a_limit() {
    let served = Served::start().await;
    let (channel, _proxy) = foreign(&served).await;
    let mut ingest = IngestServiceClient::new(channel.clone());
    for round in 0..3 {
        let mut request = events(10, 900_000);
        for event in &mut request.events {
            event.title = format!("{} of round {round}", event.title);
        }
        ingest.ingest_events(request).await.unwrap();
    }
    // Answers over 4 MiB end such a client's call.
    let mut journal = JournalServiceClient::new(channel);
    let mut request = QueryEventsRequest {
        page_size: 1_000,
        ..Default::default()
    };
    let (mut pages, mut titles) = (0, std::collections::BTreeSet::new());
    loop {
        let page = journal.query_events(request.clone()).await.unwrap();
        let page = page.into_inner();
        pages += 1;
        titles.extend(page.events.into_iter().map(|event| event.title));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!((pages, titles.len()), (8, 30));
}
