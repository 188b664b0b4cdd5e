//! The JSON surface: HTTP calls on the paths that the contracts give, turned into the same gRPC calls.
//!
//! Nothing here knows any one call: paths, messages and fields all come from the compiled contracts, so a
//! new rpc with an HTTP path is served without a line of code.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use commonplace_rpc::{Channel, Code, Failure};
use http_body_util::{BodyExt, Limited};
use prost::Message;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, SerializeOptions,
    Value,
};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::http_error::HttpError;
use crate::{Backends, Options};

#[derive(Clone)]
struct Call {
    method: MethodDescriptor,
    channel: Channel,
    has_body: bool,
    max_bytes: usize,
}

/// One route for each HTTP path that the contracts of the given services name.
pub(crate) fn routes(backends: &Backends, options: &Options) -> Router {
    let mut paths: BTreeMap<String, MethodRouter> = BTreeMap::new();
    for service in commonplace_proto::pool().services() {
        let Some(channel) = backends.get(service.full_name()) else {
            continue;
        };
        for method in service.methods() {
            let Some((verb, path, has_body)) = http_rule(&method) else {
                continue;
            };
            let call = Call {
                method,
                channel: channel.clone(),
                has_body,
                max_bytes: options.max_json_bytes,
            };
            let handler = on(verb, answer).with_state(call);
            let entry = paths.remove(&path).unwrap_or_default();
            paths.insert(path, entry.merge(handler));
        }
    }
    paths
        .into_iter()
        .fold(Router::new(), |router, (path, handler)| {
            router.route(&path, handler)
        })
}

/// Reads the `google.api.http` option of a method: verb, path, whether the body is the message.
fn http_rule(method: &MethodDescriptor) -> Option<(MethodFilter, String, bool)> {
    let extension = commonplace_proto::pool().get_extension_by_name("google.api.http")?;
    let options = method.options();
    if !options.has_extension(&extension) {
        return None;
    }
    let rule = options.get_extension(&extension).as_message()?.clone();
    let has_body = rule.get_field_by_name("body")?.as_str() == Some("*");
    let verbs = [
        ("get", MethodFilter::GET),
        ("put", MethodFilter::PUT),
        ("post", MethodFilter::POST),
    ];
    verbs.into_iter().find_map(|(verb, filter)| {
        let path = rule.get_field_by_name(verb)?.as_str()?.to_owned();
        (!path.is_empty()).then_some((filter, path, has_body))
    })
}

async fn answer(
    State(call): State<Call>,
    Path(in_path): Path<BTreeMap<String, String>>,
    RawQuery(query): RawQuery,
    request: http::Request<Body>,
) -> Result<Response, HttpError> {
    let (parts, body) = request.into_parts();
    let mut message = if call.has_body {
        read_body(call.method.input(), body, call.max_bytes).await?
    } else {
        read_query(call.method.input(), query.as_deref().unwrap_or_default())?
    };
    for (name, value) in in_path {
        message.set_field_by_name(&name, Value::String(value));
    }
    let mut request = tonic::Request::new(message);
    for name in ["grpc-timeout", "traceparent", "x-request-id"] {
        if let Some(value) = parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .and_then(|v| v.parse().ok())
        {
            request.metadata_mut().insert(name, value);
        }
    }
    let path = format!(
        "/{}/{}",
        call.method.parent_service().full_name(),
        call.method.name()
    );
    let answer = send(call.channel, path, request, call.method.output()).await?;
    Ok((
        [("content-type", "application/json")],
        print(&answer)? + "\n",
    )
        .into_response())
}

async fn send(
    channel: Channel,
    path: String,
    request: tonic::Request<DynamicMessage>,
    output: MessageDescriptor,
) -> Result<DynamicMessage, HttpError> {
    let internal = |text: String| HttpError(Failure::new(Code::Internal, "GATEWAY").message(text));
    let path = path
        .parse()
        .map_err(|_| internal(format!("`{path}` is not a path")))?;
    let mut client = tonic::client::Grpc::new(channel)
        .max_decoding_message_size(commonplace_rpc::server::MESSAGE_BYTES);
    client
        .ready()
        .await
        .map_err(|error| internal(error.to_string()))?;
    Ok(client
        .unary(request, path, Dynamic(output))
        .await?
        .into_inner())
}

fn print(message: &DynamicMessage) -> Result<String, HttpError> {
    let mut text = Vec::new();
    let mut writer = serde_json::Serializer::new(&mut text);
    let options = SerializeOptions::new().use_proto_field_name(true);
    message
        .serialize_with_options(&mut writer, &options)
        .map_err(|error| {
            HttpError(Failure::new(Code::Internal, "GATEWAY").message(error.to_string()))
        })?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

async fn read_body(
    input: MessageDescriptor,
    body: Body,
    limit: usize,
) -> Result<DynamicMessage, HttpError> {
    let too_large = || {
        let text = format!(
            "the body is larger than {limit} bytes; send it in parts or raise `gateway.max_json_bytes`"
        );
        HttpError(Failure::new(Code::ResourceExhausted, "BODY_TOO_LARGE").message(text))
    };
    let bytes: Bytes = Limited::new(body, limit)
        .collect()
        .await
        .map_err(|_| too_large())?
        .to_bytes();
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(DynamicMessage::new(input));
    }
    let mut reader = serde_json::Deserializer::from_slice(&bytes);
    let message =
        DynamicMessage::deserialize(input, &mut reader).map_err(|error| bad_json(&error))?;
    reader.end().map_err(|error| bad_json(&error))?;
    Ok(message)
}

fn bad_json(error: &serde_json::Error) -> HttpError {
    let text = format!("the body is not the JSON that was expected: {error}");
    HttpError(
        Failure::new(Code::InvalidArgument, "BODY_INVALID")
            .field("body", &error.to_string())
            .message(text),
    )
}

/// Reads `a=1&b.c=x&b.c=y` into the message's fields; a repeated key fills a list.
fn read_query(input: MessageDescriptor, query: &str) -> Result<DynamicMessage, HttpError> {
    let mut object = serde_json::Map::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let wrong = |problem: &str| {
            let failure =
                Failure::new(Code::InvalidArgument, "QUERY_INVALID").field(&name, problem);
            HttpError(failure.message(format!("query parameter `{name}`: {problem}")))
        };
        let field = find_field(&input, &name).ok_or_else(|| wrong("is not known here"))?;
        put(
            &mut object,
            &name,
            query_value(&field, &value),
            field.is_list(),
        );
    }
    DynamicMessage::deserialize(input, serde_json::Value::Object(object)).map_err(|error| {
        let failure =
            Failure::new(Code::InvalidArgument, "QUERY_INVALID").field("query", &error.to_string());
        HttpError(failure.message(format!("the query does not fit: {error}")))
    })
}

fn find_field(message: &MessageDescriptor, path: &str) -> Option<FieldDescriptor> {
    match path.split_once('.') {
        None => message.get_field_by_name(path),
        Some((first, rest)) => match message.get_field_by_name(first)?.kind() {
            Kind::Message(inner) => find_field(&inner, rest),
            _ => None,
        },
    }
}

/// Texts stay texts, which JSON for messages allows for numbers too; only truth values need a change.
fn query_value(field: &FieldDescriptor, value: &str) -> serde_json::Value {
    match (field.kind(), value) {
        (Kind::Bool, "true" | "1" | "") => true.into(),
        (Kind::Bool, "false" | "0") => false.into(),
        _ => value.into(),
    }
}

fn put(
    object: &mut serde_json::Map<String, serde_json::Value>,
    path: &str,
    value: serde_json::Value,
    list: bool,
) {
    match path.split_once('.') {
        Some((first, rest)) => {
            let inner = object
                .entry(first)
                .or_insert_with(|| serde_json::Map::new().into());
            if let Some(inner) = inner.as_object_mut() {
                put(inner, rest, value, list);
            }
        }
        None if list => {
            let values = object
                .entry(path)
                .or_insert_with(|| serde_json::Value::Array(Vec::new()));
            if let Some(values) = values.as_array_mut() {
                values.push(value);
            }
        }
        None => {
            object.insert(path.to_owned(), value);
        }
    }
}

/// Carries messages that are known by their descriptor only.
#[derive(Clone)]
struct Dynamic(MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        self.clone()
    }

    fn decoder(&mut self) -> Self {
        self.clone()
    }
}

impl Encoder for Dynamic {
    type Item = DynamicMessage;
    type Error = tonic::Status;

    fn encode(
        &mut self,
        message: DynamicMessage,
        buffer: &mut EncodeBuf<'_>,
    ) -> Result<(), tonic::Status> {
        message
            .encode(buffer)
            .map_err(|error| tonic::Status::internal(error.to_string()))
    }
}

impl Decoder for Dynamic {
    type Item = DynamicMessage;
    type Error = tonic::Status;

    fn decode(
        &mut self,
        buffer: &mut DecodeBuf<'_>,
    ) -> Result<Option<DynamicMessage>, tonic::Status> {
        DynamicMessage::decode(self.0.clone(), buffer)
            .map(Some)
            .map_err(|error| tonic::Status::internal(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paths_that_users_know_are_there() {
        let paths: Vec<String> = commonplace_proto::pool()
            .services()
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .filter_map(|method| {
                http_rule(&method).map(|(verb, path, _)| format!("{verb:?} {path}"))
            })
            .collect();
        for (verb, path) in [
            (MethodFilter::POST, "/events"),
            (MethodFilter::GET, "/events"),
            (MethodFilter::POST, "/retrieve"),
            (MethodFilter::POST, "/injector/pack"),
            (MethodFilter::GET, "/policies"),
            (MethodFilter::PUT, "/policies/{id}"),
            (MethodFilter::POST, "/journal/session"),
            (MethodFilter::POST, "/journal/commit"),
        ] {
            assert!(
                paths.contains(&format!("{verb:?} {path}")),
                "{path} is missing from {paths:#?}"
            );
        }
    }

    #[test]
    fn a_query_fills_fields_lists_and_inner_messages() {
        let input = commonplace_proto::pool()
            .get_message_by_name("commonplace.journal.v1.QueryEventsRequest")
            .unwrap();
        let query = "filter.artifact_types=test&filter.artifact_types=bug&page_size=5&include_superseded=true";
        let message = read_query(input.clone(), query).unwrap();
        let json = serde_json::to_value(&message).unwrap();
        assert_eq!(
            json["filter"]["artifactTypes"],
            serde_json::json!(["test", "bug"])
        );
        assert_eq!(
            (
                json["pageSize"].as_i64(),
                json["includeSuperseded"].as_bool()
            ),
            (Some(5), Some(true))
        );
        let error = read_query(input, "colour=red").unwrap_err();
        assert!(error.0.message.contains("colour"), "{:?}", error.0);
    }
}
