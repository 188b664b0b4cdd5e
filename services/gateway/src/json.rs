//! The JSON surface: HTTP calls on the paths that the contracts give, turned into the same gRPC calls.
//!
//! Nothing here knows any one call: paths, messages and fields all come from the compiled contracts, so a
//! new rpc with an HTTP path is served without a line of code. A call's deadline covers its body too.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use bytes::Bytes;
use commonplace_rpc::{Channel, Code, Failure, Raw};
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions};
use tokio::sync::Semaphore;

use crate::body::Intake;
use crate::http_error::HttpError;
use crate::surroundings::within;
use crate::{Backends, Options, guard, query, transcode};

/// From this size on, JSON is read and written off the threads that serve connections.
const OFF_THREAD_BYTES: usize = 64 << 10;

#[derive(Clone)]
struct Call {
    method: MethodDescriptor,
    channel: Channel,
    has_body: bool,
    shared: Shared,
}

/// What all calls share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) intake: Intake,
    pub(crate) timeout: Duration,
    /// Large texts that are read or written at the same time; more wait, within their deadlines.
    workers: Arc<Semaphore>,
}

impl Shared {
    pub(crate) fn new(options: &Options) -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            intake: Intake::new(options),
            timeout: Duration::from_secs(options.timeout_seconds),
            workers: Arc::new(Semaphore::new(workers)),
        }
    }

    /// Does the work where it holds nobody up, if there is much of it. Error: of ours.
    async fn work<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, HttpError> {
        if bytes < OFF_THREAD_BYTES {
            return Ok(work());
        }
        let stopped = |_| internal("the work was stopped".into());
        let permit = self.workers.clone().acquire_owned().await;
        let permit = permit.map_err(|error| internal(error.to_string()))?;
        let work = move || {
            // Held until the work ends, even if its caller gives up before.
            let _permit = permit;
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(stopped)
    }
}

/// One route for each HTTP path that the contracts of the given services name.
pub(crate) fn routes(backends: &Backends, shared: &Shared) -> Router {
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
                shared: shared.clone(),
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

/// The HTTP calls that the contracts of the given services name: verb and path, and the path of the rpc.
pub(crate) fn calls(backends: &Backends) -> Vec<(&'static str, String, String)> {
    let services = commonplace_proto::pool().services();
    let methods = services
        .filter(|service| backends.contains_key(service.full_name()))
        .flat_map(|service| service.methods().collect::<Vec<_>>());
    let call = |method: MethodDescriptor| {
        let (filter, path, _) = http_rule(&method)?;
        let verb = VERBS.iter().find(|verb| verb.2 == filter)?.1;
        Some((verb, path, rpc_path(&method)))
    };
    methods.filter_map(call).collect()
}

fn rpc_path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

/// A verb as contracts, HTTP and routes name it.
const VERBS: [(&str, &str, MethodFilter); 3] = [
    ("get", "GET", MethodFilter::GET),
    ("put", "PUT", MethodFilter::PUT),
    ("post", "POST", MethodFilter::POST),
];

/// Takes the report's body as it is; every other path is in the contracts.
const REPORT: &str = "/commonplace.ingest.v1.IngestService/IngestReport";

/// The path of the rpc that an HTTP call stands for, as gRPC has it. None: it stands for no rpc.
pub(crate) fn rpc_of(verb: &http::Method, path: &str) -> Option<&'static str> {
    static RULES: LazyLock<Vec<(MethodFilter, String, String)>> = LazyLock::new(|| {
        let services = commonplace_proto::pool().services();
        let methods = services.flat_map(|service| service.methods().collect::<Vec<_>>());
        let rules = methods.filter_map(|method| {
            let (verb, template, _) = http_rule(&method)?;
            Some((verb, template, rpc_path(&method)))
        });
        rules.collect()
    });
    let verb = MethodFilter::try_from(verb.clone()).ok()?;
    let fits = |template: &str| {
        let (given, wanted) = (path.split('/'), template.split('/'));
        given.clone().count() == wanted.clone().count()
            && given
                .zip(wanted)
                .all(|(given, wanted)| wanted.starts_with('{') || wanted == given)
    };
    let rule = RULES
        .iter()
        .find(|(with, template, _)| *with == verb && fits(template));
    let report = || (verb == MethodFilter::POST && fits("/ingest/{format}")).then_some(REPORT);
    rule.map(|(_, _, rpc)| rpc.as_str()).or_else(report)
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
    VERBS.into_iter().find_map(|(verb, _, filter)| {
        let path = rule.get_field_by_name(verb)?.as_str()?.to_owned();
        (!path.is_empty()).then_some((filter, path, has_body))
    })
}

type InPath = Result<Path<BTreeMap<String, String>>, PathRejection>;

async fn answer(
    State(call): State<Call>,
    in_path: InPath,
    RawQuery(query): RawQuery,
    request: http::Request<Body>,
) -> Result<Response, HttpError> {
    let (parts, body) = request.into_parts();
    let query = query.unwrap_or_default();
    within(&parts, call.shared.timeout, async {
        let in_path = path_parameters(in_path)?;
        if call.has_body {
            query::refuse(&query)?;
            guard::check_json(&parts.headers)?;
        }
        call.answer(in_path, &query, body).await
    })
    .await
}

impl Call {
    async fn answer(
        self,
        in_path: BTreeMap<String, String>,
        query: &str,
        body: Body,
    ) -> Result<Response, HttpError> {
        let input = self.method.input();
        let given: Vec<String> = in_path.keys().cloned().collect();
        // The room that a body takes is held until the call is answered.
        let (mut wire, _room) = if self.has_body {
            let whole = self.shared.intake.whole(body).await.map_err(HttpError)?;
            let (text, room) = (whole.bytes, whole.room);
            let (message, length) = (input.clone(), text.len());
            let read = move || (read_body(&message, &text, &given), room);
            let (wire, room) = self.shared.work(length, read).await?;
            (wire?, room)
        } else {
            (query::read(&input, query, &given)?, Vec::new())
        };
        for (name, text) in in_path {
            if let Some(field) = input.get_field_by_name(&name) {
                transcode::put_text(&field, &text, &mut wire);
            }
        }
        let path = rpc_path(&self.method);
        let answer = send(self.channel, path, wire.into()).await?;
        let (output, length) = (self.method.output(), answer.len());
        let print = move || print(output, answer);
        let text = self.shared.work(length, print).await??;
        Ok(([("content-type", "application/json")], text).into_response())
    }
}

/// What the path names. Error: it is no text.
pub(crate) fn path_parameters(in_path: InPath) -> Result<BTreeMap<String, String>, HttpError> {
    in_path.map(|Path(in_path)| in_path).map_err(|rejection| {
        let failure = Failure::new(Code::InvalidArgument, "FIELD_INVALID")
            .field(
                "path",
                "expected a path that is UTF-8 when its escapes are resolved",
            )
            .message(format!(
                "the path cannot be read: {}",
                rejection.body_text()
            ));
        HttpError(failure)
    })
}

fn read_body(
    input: &MessageDescriptor,
    text: &[u8],
    given: &[String],
) -> Result<Vec<u8>, HttpError> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(Vec::new());
    }
    transcode::text(input, text, given).map_err(|invalid| {
        let failure = Failure::new(Code::InvalidArgument, "BODY_INVALID")
            .field(&invalid.field, &invalid.problem)
            .message(format!("the body is not what was expected: {invalid}"));
        HttpError(failure)
    })
}

async fn send(channel: Channel, path: String, wire: Bytes) -> Result<Bytes, HttpError> {
    let path = path
        .parse()
        .map_err(|_| internal(format!("`{path}` is not a path")))?;
    let mut client = tonic::client::Grpc::new(channel)
        .max_decoding_message_size(commonplace_rpc::server::MESSAGE_BYTES);
    client
        .ready()
        .await
        .map_err(|error| internal(error.to_string()))?;
    let answer = client.unary(tonic::Request::new(wire), path, Raw).await?;
    Ok(answer.into_inner())
}

fn print(output: MessageDescriptor, wire: Bytes) -> Result<String, HttpError> {
    let message =
        DynamicMessage::decode(output, wire).map_err(|error| internal(error.to_string()))?;
    let mut text = Vec::new();
    let mut writer = serde_json::Serializer::new(&mut text);
    let options = SerializeOptions::new().use_proto_field_name(true);
    message
        .serialize_with_options(&mut writer, &options)
        .map_err(|error| internal(error.to_string()))?;
    text.push(b'\n');
    String::from_utf8(text).map_err(|error| internal(error.to_string()))
}

fn internal(text: String) -> HttpError {
    HttpError(Failure::new(Code::Internal, "GATEWAY").message(text))
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
    fn a_path_stands_for_the_rpc_that_it_calls() {
        for (verb, path, rpc) in [
            (
                "GET",
                "/keys",
                "/commonplace.policy.v1.AccessService/ListKeys",
            ),
            (
                "POST",
                "/keys",
                "/commonplace.policy.v1.AccessService/CreateKey",
            ),
            (
                "POST",
                "/keys/an-id/revoke",
                "/commonplace.policy.v1.AccessService/RevokeKey",
            ),
            ("POST", "/ingest/junit", REPORT),
            (
                "GET",
                "/ingest/formats",
                "/commonplace.ingest.v1.IngestService/ListFormats",
            ),
        ] {
            assert_eq!(
                rpc_of(&verb.parse().unwrap(), path),
                Some(rpc),
                "{verb} {path}"
            );
        }
        for (verb, path) in [
            ("PUT", "/keys"),
            ("GET", "/keys/"),
            ("GET", "/nothing"),
            ("X", "/keys"),
        ] {
            assert_eq!(rpc_of(&verb.parse().unwrap(), path), None, "{verb} {path}");
        }
    }

    #[test]
    fn what_the_path_gives_is_a_text_field_of_the_request() {
        for service in commonplace_proto::pool().services() {
            for method in service.methods() {
                let Some((_, path, _)) = http_rule(&method) else {
                    continue;
                };
                for name in path
                    .split('{')
                    .skip(1)
                    .filter_map(|rest| rest.split('}').next())
                {
                    let field = method.input().get_field_by_name(name).unwrap();
                    assert_eq!(field.kind(), prost_reflect::Kind::String, "{path}");
                }
            }
        }
    }
}
