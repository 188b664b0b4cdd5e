//! What once went wrong, and stays right.

use crate::server::Served;

/// A policy that was deep enough took all of the stack, and the server with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_deep_policy_does_not_end_the_server() {
    let served = Served::open().await;
    let deep = format!("{}true{}", "(".repeat(30_000), ")".repeat(30_000));
    let source = format!("permit (principal, action, resource) when {{ {deep} }};");
    let body = serde_json::json!({ "source": source }).to_string();
    let json = b"content-type: application/json".to_vec();
    let line = "PUT /access/policies/deep";
    let (status, answer) = served.call(line, &[json], body.as_bytes()).await;
    let text = String::from_utf8_lossy(&answer);
    assert_eq!(status, Some(400), "{text}");
    assert!(text.contains("at most 32 brackets"), "{text}");
    served.close("a deep policy").await;
}
