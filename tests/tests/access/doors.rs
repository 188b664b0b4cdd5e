//! Every rpc asks for what its contract says, of everybody; every path too.

use std::time::Duration;

use bytes::Bytes;
use commonplace_rpc::methods::{self, Method, Over};
use commonplace_rpc::{Channel, context};
use commonplace_tests::raw;
use commonplace_types::Right;
use prost::Message;
use prost_reflect::{DynamicMessage, MethodDescriptor, ReflectMessage, Value};
use tonic::Code;

use super::common::{House, people};

pub const PROJECT: &str = "vault";

fn descriptor(method: &Method) -> MethodDescriptor {
    let (service, name) = method.name.split_once('/').unwrap();
    let service = commonplace_proto::pool()
        .get_service_by_name(service)
        .unwrap();
    service
        .methods()
        .find(|found| found.name() == name)
        .unwrap()
}

/// A request that says nothing but which project it is about.
pub fn request(method: &Method) -> Bytes {
    let mut message = DynamicMessage::new(descriptor(method).input());
    if let Over::Project(path) = &method.access.as_ref().unwrap().over {
        put(&mut message, path);
    }
    message.encode_to_vec().into()
}

fn put(message: &mut DynamicMessage, path: &[u32]) {
    let (first, deeper) = path.split_first().unwrap();
    if deeper.is_empty() {
        message.set_field_by_number(*first, Value::String(PROJECT.into()));
        return;
    }
    let field = message.descriptor().get_field(*first).unwrap();
    let mut inner = DynamicMessage::new(field.kind().as_message().unwrap().clone());
    put(&mut inner, deeper);
    message.set_field_by_number(*first, Value::Message(inner));
}

/// Whether whoever gets past the door is refused all the same: services call the first past the gateway, which
/// refuses it to everybody; operators show certificates.
pub fn closed(path: &str) -> bool {
    let closed = [
        "JournalService/Append",
        "TelemetryService/GetMetrics",
        "TelemetryService/RunChecks",
    ];
    closed.iter().any(|name| path.ends_with(name))
}

/// Whether somebody gets past the door of an rpc, by what its contract says and nothing else.
pub fn expected(who: &str, method: &Method) -> bool {
    let access = method.access.as_ref().unwrap();
    let Some(right) = access.right else {
        return false;
    };
    let asked = match access.over {
        // What such a call is about is found out behind the door.
        Over::Service => Right::Member,
        Over::Tenant | Over::Project(_) => right,
    };
    let most = match who {
        // In its own tenant, where it finds nothing of the other's.
        "stranger" | "admin" => Right::Admin,
        "writer" => Right::Write,
        "reader" => Right::Read,
        "member" | "scoped" => Right::Member,
        _ => return false,
    };
    asked <= most
}

async fn call(channel: &Channel, path: &str, method: &Method) -> Code {
    let messages = vec![request(method)];
    let call = raw::call(channel, path, messages);
    let answer = context::with_deadline(Duration::from_secs(5), call).await;
    answer.err().map_or(Code::Ok, |status| status.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_lets_in_whom_its_contract_says() {
    let house = House::new().await;
    house.write("acme", PROJECT, "note", "gold").await;
    let people = people(&house).await;
    let mut tried = 0;
    for (path, method) in methods::all().filter(|(path, _)| path.starts_with("/commonplace.")) {
        let closed = closed(path);
        let nobody = call(&house.channel(None), path, method).await;
        assert_eq!(nobody, Code::Unauthenticated, "nobody calls {path}");
        let forged = house.channel(Some(
            "com_aaaaaaaaaaaaaaaa_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ));
        assert_eq!(
            call(&forged, path, method).await,
            Code::Unauthenticated,
            "forged: {path}"
        );
        for (who, key) in &people {
            let code = call(&house.channel(Some(key)), path, method).await;
            let refused = [Code::PermissionDenied, Code::Unauthenticated].contains(&code);
            let expected = expected(who, method) && !closed;
            assert_eq!(!refused, expected, "{who} calls {path}: {code:?}");
            tried += 1;
        }
    }
    assert!(tried > 200, "{tried} calls");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_asks_who_calls() {
    let house = House::new().await;
    let extension = commonplace_proto::pool()
        .get_extension_by_name("google.api.http")
        .unwrap();
    let mut paths = vec![
        ("POST".to_owned(), "/ingest/junit?name=a".to_owned(), "401"),
        ("GET".to_owned(), "/metrics".to_owned(), "403"),
        ("GET".to_owned(), "/nothing".to_owned(), "401"),
        ("GET".to_owned(), "/health".to_owned(), "200"),
    ];
    for (_, method) in methods::all().filter(|(path, _)| path.starts_with("/commonplace.")) {
        let options = descriptor(method).options();
        let rule = options.get_extension(&extension);
        let rule = rule.as_message().unwrap();
        for verb in ["get", "put", "post"] {
            let path = rule
                .get_field_by_name(verb)
                .unwrap()
                .as_str()
                .unwrap()
                .to_owned();
            if !path.is_empty() {
                let path = path.replace("{id}", "an-id");
                paths.push((verb.to_uppercase(), path, "401"));
            }
        }
    }
    assert!(paths.len() > 25);
    for (verb, path, expected) in paths {
        let answer = http(&house, &verb, &path, None).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected}")),
            "{verb} {path}: {answer}"
        );
        if expected == "401" {
            assert!(
                answer.to_lowercase().contains("www-authenticate: bearer"),
                "{answer}"
            );
            assert!(answer.contains("CREDENTIALS_MISSING"), "{answer}");
        }
    }
    house.close().await;
}

/// One HTTP call as `curl` would make it; the whole answer.
pub async fn http(house: &House, verb: &str, path: &str, key: Option<&str>) -> String {
    http_with(house, verb, path, key, "").await
}

/// The same with further headers, each with its line's end.
pub async fn http_with(
    house: &House,
    verb: &str,
    path: &str,
    key: Option<&str>,
    headers: &str,
) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(house.server.address())
        .await
        .unwrap();
    let credential = key.map_or(String::new(), |key| {
        format!("authorization: Bearer {key}\r\n")
    });
    let body = if verb == "GET" { "" } else { "{}" };
    let request = format!(
        "{verb} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         {credential}{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer));
    read.await.unwrap().unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
