//! What is written in logs: never what people and agents remember.

use commonplace_node::Role;
use commonplace_tests::mesh::{Form, Mesh};
use tonic::Code;

use crate::common::{retrieve, traced, write, write_as};

const TITLE: &str = "titlemarkerqzx";
const TEXT: &str = "textmarkerqzx";
const SECRET: &str = "secretmarkerqzx8f3a91c07d";
const QUERY: &str = "querymarkerqzx";
const TYPE: &str = "typemarkerqzx";

#[tokio::test(flavor = "multi_thread")]
async fn neither_secrets_nor_texts_are_logged_at_any_level() {
    let mesh = Mesh::builder(Form::OneProcess)
        .set("telemetry.log", "warn,commonplace=trace")
        .set("telemetry.log_format", "json")
        .set("index.commit_interval_ms", "50")
        .start()
        .await;
    let channels = mesh.channels();
    let text = format!("{TEXT}: export API_KEY={SECRET} and password: {SECRET}");
    let (_, written) = traced(write(&channels, TITLE, &text)).await;
    written.unwrap();
    let (_, packed) = traced(retrieve(&channels, &format!("{QUERY} {TEXT}"))).await;
    let packed = packed.unwrap().into_inner();
    assert!(packed.pack.is_some());
    // What is wrong with a call is told to its caller, and to nobody else.
    let (_, refused) = traced(write_as(&channels, &format!("Type {TYPE}"), TITLE, TEXT)).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains(TYPE), "{refused}");
    let log = mesh.data(Role::Gateway, 0).with_file_name("log");
    let _folder = mesh.shutdown().await;
    let lines = std::fs::read_to_string(log).unwrap();
    assert!(!lines.is_empty(), "something was logged");
    for line in lines.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).expect(line);
        for needed in ["timestamp", "level", "target", "message"] {
            assert!(entry[needed].is_string(), "{needed} in {line}");
        }
        for marker in [TITLE, TEXT, SECRET, QUERY, TYPE] {
            assert!(!line.contains(marker), "{marker} in {line}");
        }
    }
}
