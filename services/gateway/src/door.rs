//! The way in: under overload, calls that would be refused whoever makes them go no further.

use commonplace_rpc::{Edge, server};
use http::HeaderMap;

use crate::trace::Requests;

/// Refuses, before anything is done for them, the calls that the edge would refuse anyway. JSON and gRPC-web do not come
/// by: what they call, and how they are answered, is found out further in.
#[derive(Debug, Clone)]
pub struct Door {
    edge: Edge,
    requests: Requests,
}

impl Door {
    pub(crate) fn new(edge: Edge, requests: Requests) -> Self {
        Self { edge, requests }
    }
}

impl server::Door for Door {
    fn turn_away(&self, path: &str, headers: &HeaderMap) -> Option<HeaderMap> {
        let (method, head) = self.edge.turn_away(path, headers)?;
        self.requests.turned_away(method);
        Some(head)
    }
}
