//! Who may call at all, judged by the headers that browsers set: no web page calls unless its origin is
//! allowed, and a server on a loopback address answers to its own names only.
//!
//! The second keeps out pages whose host name was made to point here (DNS rebinding): for a browser those
//! are of the same origin, so only the name that they use tells them apart.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use commonplace_rpc::audit::Recorder;
use commonplace_rpc::server::ListenAddress;
use commonplace_rpc::{Code, Failure};
use http::header::{CONTENT_TYPE, HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, HeaderName};

use crate::Options;
use crate::http_error::HttpError;

/// Set by browsers on every request to a trustworthy address, loopback included.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The names that are allowed.
#[derive(Debug)]
pub(crate) struct Guard {
    origins: Vec<String>,
    hosts: Vec<String>,
}

impl Guard {
    /// With what records whom it refuses.
    pub(crate) fn new(options: &Options, recorder: Recorder) -> (Arc<Self>, Recorder) {
        let guard = Self {
            origins: options.allowed_origins.clone(),
            hosts: options.allowed_hosts.clone(),
        };
        (Arc::new(guard), recorder)
    }

    fn check(&self, request: &Request) -> Result<(), Failure> {
        let listen = request.extensions().get::<ListenAddress>();
        if listen.is_some_and(|listen| listen.0.ip().is_loopback()) {
            self.check_host(request)?;
        }
        let Some(origin) = request.headers().get(ORIGIN) else {
            return Ok(());
        };
        let allowed = |name: &String| name == "*" || name.as_bytes() == origin.as_bytes();
        if self.origins.iter().any(allowed) {
            return Ok(());
        }
        let text = "web pages may call only from the origins in `gateway.allowed_origins`";
        Err(Failure::new(Code::PermissionDenied, "ORIGIN_NOT_ALLOWED")
            .field("origin", "is not in `gateway.allowed_origins`")
            .message(text))
    }

    fn check_host(&self, request: &Request) -> Result<(), Failure> {
        let in_path = request.uri().authority().cloned().map(Ok);
        let in_headers = request.headers().get_all(HOST).iter();
        let in_headers = in_headers.map(|host| Authority::try_from(host.as_bytes()));
        for host in in_path.into_iter().chain(in_headers) {
            let ours = host.is_ok_and(|host| is_loopback(host.host()) || self.names(host.host()));
            if !ours {
                let text = "a server on a loopback address answers to `localhost`, loopback addresses and the \
                            names in `gateway.allowed_hosts`";
                return Err(Failure::new(Code::PermissionDenied, "HOST_NOT_ALLOWED")
                    .field("host", "is not in `gateway.allowed_hosts`")
                    .message(text));
            }
        }
        Ok(())
    }

    fn names(&self, host: &str) -> bool {
        let mut names = self.hosts.iter();
        names.any(|name| name == "*" || name.eq_ignore_ascii_case(host))
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return address.to_canonical().is_loopback();
    }
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// The layer around every route.
pub(crate) async fn check(
    State((guard, recorder)): State<(Arc<Guard>, Recorder)>,
    request: Request,
    next: Next,
) -> Response {
    let Err(failure) = guard.check(&request) else {
        return next.run(request).await;
    };
    crate::who::refused(&recorder, &request, &failure);
    match crate::grpc::is_grpc(request.headers()) {
        true => failure.into_status().into_http::<Body>(),
        false => HttpError(failure).into_response(),
    }
}

/// Whether a body may be read as JSON. What `curl -d` says of a body by itself passes too, but not from a
/// browser, whose pages may send that type anywhere without being asked. Error: names the header.
pub(crate) fn check_json(headers: &HeaderMap) -> Result<(), HttpError> {
    let browser = headers.contains_key(ORIGIN) || headers.contains_key(SEC_FETCH_SITE);
    let essence = headers.get(CONTENT_TYPE).map(|value| {
        let text = value.to_str().unwrap_or("?");
        let essence = text.split(';').next().unwrap_or_default();
        essence.trim().to_ascii_lowercase()
    });
    let fits = match essence.as_deref() {
        Some("application/json") => true,
        None | Some("application/x-www-form-urlencoded") => !browser,
        Some(other) => other.starts_with("application/") && other.ends_with("+json"),
    };
    if fits {
        return Ok(());
    }
    let failure = Failure::new(Code::InvalidArgument, "CONTENT_TYPE_INVALID")
        .field("content-type", "expected application/json")
        .message("the body must be JSON; send it with the header `content-type: application/json`");
    Err(HttpError(failure))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        Guard {
            origins: vec!["https://console.example".into()],
            hosts: vec!["memory.internal".into()],
        }
    }

    fn asked(listen: &str, headers: &[(&str, &str)]) -> Result<(), String> {
        let mut request = Request::new(Body::empty());
        let listen = ListenAddress(listen.parse().unwrap());
        request.extensions_mut().insert(listen);
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        guard().check(&request).map_err(|failure| failure.reason)
    }

    #[test]
    fn a_loopback_server_answers_to_its_own_names() {
        for host in [
            "localhost",
            "LOCALHOST:8083",
            "localhost.",
            "api.localhost",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:8083",
            "[::ffff:127.0.0.1]",
            "memory.internal:8083",
            "Memory.Internal",
        ] {
            assert_eq!(asked("127.0.0.1:8083", &[("host", host)]), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "evil@",
            "",
            "[::2]",
            "notlocalhost",
        ] {
            let refused = asked("127.0.0.1:8083", &[("host", host)]);
            assert_eq!(refused, Err("HOST_NOT_ALLOWED".into()), "{host}");
            assert_eq!(asked("0.0.0.0:8083", &[("host", host)]), Ok(()), "{host}");
        }
        let two = [("host", "localhost"), ("host", "evil.example")];
        assert!(asked("[::1]:8083", &two).is_err());
    }

    #[test]
    fn only_allowed_origins_pass() {
        let from = |origin| asked("0.0.0.0:8083", &[("origin", origin)]);
        assert_eq!(from("https://console.example"), Ok(()));
        for origin in [
            "http://console.example",
            "https://console.example.evil",
            "null",
            "",
        ] {
            assert_eq!(from(origin), Err("ORIGIN_NOT_ALLOWED".into()), "{origin}");
        }
    }

    #[test]
    fn a_body_is_json_by_its_type() {
        let check = |headers: &[(&'static str, &str)]| {
            let headers = headers.iter();
            let headers = headers.map(|(n, v)| (HeaderName::from_static(n), v.parse().unwrap()));
            check_json(&headers.collect()).is_ok()
        };
        let form = "application/x-www-form-urlencoded";
        assert!(check(&[("content-type", "application/json")]));
        assert!(check(&[(
            "content-type",
            "Application/JSON; charset=utf-8"
        )]));
        assert!(check(&[("content-type", "application/merge-patch+json")]));
        assert!(check(&[("content-type", form)]) && check(&[]));
        assert!(!check(&[("content-type", "text/plain")]));
        assert!(!check(&[("content-type", "text/evil+json")]));
        assert!(!check(&[("content-type", "multipart/form-data")]));
        assert!(!check(&[
            ("content-type", form),
            ("origin", "https://console.example")
        ]));
        assert!(!check(&[
            ("content-type", form),
            ("sec-fetch-site", "same-origin")
        ]));
        assert!(!check(&[("origin", "https://console.example")]));
    }
}
