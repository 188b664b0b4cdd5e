//! What is written in logs and spans: never what people and agents remember, never what proves who they are.

use commonplace_node::Role;
use commonplace_rpc::{Bearer, Channel, TransportOptions};
use commonplace_tests::mesh::{Form, Mesh};
use commonplace_tests::sink::Sink;
use tonic::Code;

use crate::common::{commit_as, retrieve, traced, write};

const TITLE: &str = "titlemarkerqzx";
const TEXT: &str = "textmarkerqzx";
const SECRET: &str = "secretmarkerqzx8f3a91c07d";
const QUERY: &str = "querymarkerqzx";
const TYPE: &str = "typemarkerqzx";
const KEY: &str = "com_aaaaaaaaaaaaaaaa_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// The secret half of the key; its id may be told.
fn markers() -> [&'static str; 6] {
    [TITLE, TEXT, SECRET, QUERY, TYPE, &KEY[21..]]
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_secrets_nor_texts_are_logged_or_traced() {
    let sink = Sink::start().await;
    let mesh = Mesh::builder(Form::OneProcess)
        .set("telemetry.log", "warn,commonplace=trace")
        .set("telemetry.log_format", "json")
        .set("telemetry.otlp_endpoint", &sink.address)
        .set("index.commit_interval_ms", "50")
        .start()
        .await;
    let channels = mesh.channels();
    let text = format!("{TEXT}: export API_KEY={SECRET} and password: {SECRET}");
    let (wrote, written) = traced(write(&channels, TITLE, &text)).await;
    written.unwrap();
    let (packed_in, packed) = traced(retrieve(&channels, &format!("{QUERY} {TEXT}"))).await;
    let packed = packed.unwrap().into_inner();
    assert!(packed.pack.is_some());
    // What is wrong with a call is told to its caller, and to nobody else.
    let (refused_in, refused) =
        traced(commit_as(&channels, &format!("Type {TYPE}"), TITLE, TEXT)).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains(TYPE), "{refused}");
    let (unknown_in, unknown) = traced(write(&with_key(&mesh), TITLE, TEXT)).await;
    assert_eq!(unknown.unwrap_err().code(), Code::Unauthenticated);

    for trace in [wrote, packed_in, refused_in, unknown_in] {
        // The outermost ends last.
        let outermost = trace.span().to_be_bytes();
        let whole = |spans: &[commonplace_tests::sink::Received]| {
            let mut spans = spans.iter();
            spans.any(|received| received.span.parent_span_id == outermost)
        };
        sink.trace(trace.trace(), whole).await;
    }
    for received in sink.received() {
        let told = format!("{received:?}");
        for marker in markers() {
            assert!(!told.contains(marker), "{marker} in {told}");
        }
    }

    let log = mesh.data(Role::Gateway, 0).with_file_name("log");
    let _folder = mesh.shutdown().await;
    let lines = std::fs::read_to_string(log).unwrap();
    assert!(!lines.is_empty(), "something was logged");
    for line in lines.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).expect(line);
        for needed in ["timestamp", "level", "target", "message"] {
            assert!(entry[needed].is_string(), "{needed} in {line}");
        }
        for marker in markers() {
            assert!(!line.contains(marker), "{marker} in {line}");
        }
    }
}

/// Channels that show a key which nobody made.
fn with_key(mesh: &Mesh) -> commonplace_node::Channels {
    let options = commonplace_rpc::RemoteOptions {
        bearer: Some(Bearer::new(KEY).unwrap()),
        ..TransportOptions::default().remote()
    };
    let channel = Channel::remote(&[mesh.address(Role::Gateway, 0)], &options).unwrap();
    commonplace_node::Channels::all(channel)
}
