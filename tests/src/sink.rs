//! A collector that keeps the spans it is sent, for tests.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use tonic::codec::CompressionEncoding;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// A span and the name of the service that sent it.
#[derive(Debug, Clone)]
pub struct Received {
    /// `service.name` of its resource.
    pub service: String,
    /// `service.instance.id` of its resource.
    pub instance: String,
    /// The span.
    pub span: Span,
}

impl Received {
    /// What an attribute says, as text.
    pub fn attribute(&self, name: &str) -> Option<String> {
        text(&self.span.attributes, name)
    }
}

/// A running collector; ends with this.
pub struct Sink {
    /// Where it takes OTLP over gRPC.
    pub address: String,
    received: Arc<Mutex<Vec<Received>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Sink {
    /// Starts it on a free port.
    pub async fn start() -> Self {
        let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0)));
        let incoming = incoming.expect("a port can be had");
        let address = incoming.local_addr().expect("a bound port has an address");
        let received = Arc::new(Mutex::new(Vec::new()));
        let service = TraceServiceServer::new(Taker(received.clone()))
            .accept_compressed(CompressionEncoding::Gzip);
        let server = tonic::transport::Server::builder().add_service(service);
        let serving = server.serve_with_incoming(incoming);
        Self {
            address: format!("http://{address}"),
            received,
            server: tokio::spawn(async move { serving.await.expect("the sink serves") }),
        }
    }

    /// Everything received so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// The spans of a trace, once `whole` says that all are there. Panics after a while without.
    pub async fn trace(&self, trace: u128, whole: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        let started = Instant::now();
        loop {
            let mut spans = self.received();
            spans.retain(|received| received.span.trace_id == trace.to_be_bytes());
            if whole(&spans) {
                return spans;
            }
            let names: Vec<_> = spans.iter().map(|s| (&s.service, &s.span.name)).collect();
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "incomplete: {names:#?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Taker(Arc<Mutex<Vec<Received>>>);

#[tonic::async_trait]
impl TraceService for Taker {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for of_service in request.into_inner().resource_spans {
            let about = of_service.resource.unwrap_or_default().attributes;
            let named = |name| text(&about, name).unwrap_or_default();
            let spans = of_service
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans);
            self.0.lock().unwrap().extend(spans.map(|span| Received {
                service: named("service.name"),
                instance: named("service.instance.id"),
                span,
            }));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn text(
    attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue],
    name: &str,
) -> Option<String> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let found = attributes.iter().find(|known| known.key == name)?;
    Some(match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}
