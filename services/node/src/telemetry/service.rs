//! The generated server trait: look here, ask the others, put together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use commonplace_access::Mode;
use commonplace_proto::Timestamp;
use commonplace_proto::telemetry as proto;
use commonplace_proto::telemetry::telemetry_service_server::TelemetryService;
use commonplace_rpc::{Code, Failure, context, status};
use commonplace_telemetry::{Summary, samples};
use commonplace_types::Invalid;
use tonic::{Request, Response, Status};

use super::gather::{self, Client};
use super::{Sources, checks, convert};
use crate::VERSION;

/// Traces of a list that names no number, and most of one.
const LISTED: u32 = 20;
const MOST_LISTED: u32 = 1_000;

/// Answers the calls of `TelemetryService`.
#[derive(Clone)]
pub(crate) struct Service {
    sources: Arc<Sources>,
}

impl Service {
    pub(super) fn new(sources: Sources) -> Self {
        Self {
            sources: Arc::new(sources),
        }
    }

    /// Measurements and checks are about all tenants. Error: PERMISSION_DENIED, where callers must show who they are,
    /// for whoever is neither an operator nor a service.
    fn admit(&self) -> Result<(), Status> {
        if self.is_open() || context::principal().is_some_and(|principal| principal.is_service()) {
            return Ok(());
        }
        Err(for_operators(
            "measurements and checks tell about all tenants",
        ))
    }

    /// Whose spans the caller is told, of the tenant it asked about. Error: PERMISSION_DENIED, if that is not its own.
    fn whose(&self, asked: &str) -> Result<Whose, Status> {
        let asked = Some(asked).filter(|tenant| !tenant.is_empty());
        match context::principal() {
            Some(principal) if principal.is_service() => Ok(Whose {
                tenant: asked.map(ToOwned::to_owned),
                places: true,
            }),
            Some(principal) if asked.is_none_or(|tenant| tenant == principal.tenant.as_str()) => {
                Ok(Whose {
                    tenant: Some(principal.tenant.as_str().to_owned()),
                    places: self.is_open(),
                })
            }
            _ => Err(for_operators("traces of other tenants are not yours")),
        }
    }

    /// Whether whoever reaches the port may see what concerns the machine.
    fn is_open(&self) -> bool {
        self.sources.checks.options.access.mode == Mode::Development
    }

    fn process(&self) -> proto::Process {
        proto::Process {
            id: self.sources.spans.process().to_owned(),
            roles: self.sources.roles.clone(),
            time: Some(now()),
            version: VERSION.to_owned(),
            ..proto::Process::default()
        }
    }

    /// Asks the others unless the caller wants this process only.
    async fn others<T, F>(
        &self,
        local: bool,
        call: impl Fn(Client) -> F,
        about: impl Fn(&mut T) -> Option<proto::Process>,
    ) -> gather::Gathered<T>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let peers = match local {
            true => &[],
            false => &self.sources.peers[..],
        };
        gather::ask(self.sources.spans.process(), peers, call, about).await
    }
}

#[tonic::async_trait]
impl TelemetryService for Service {
    async fn get_trace(
        &self,
        request: Request<proto::GetTraceRequest>,
    ) -> Result<Response<proto::GetTraceResponse>, Status> {
        let request = request.into_inner();
        let whose = self.whose(&request.tenant)?;
        let id = convert::trace_id(&request.trace_id).map_err(status)?;
        let own = self.sources.spans.trace(id, whose.tenant());
        let process = self.sources.spans.process();
        let mut spans: Vec<_> = own
            .iter()
            .map(|span| convert::span(span, process))
            .collect();
        let mut processes = vec![self.process()];
        let ask = |mut client: Client| {
            let request = proto::GetTraceRequest {
                trace_id: request.trace_id.clone(),
                local: true,
                tenant: whose.tenant().unwrap_or_default().to_owned(),
            };
            async move { client.get_trace(request).await }
        };
        let about = |answer: &mut proto::GetTraceResponse| answer.processes.pop();
        let gathered = self.others(request.local, ask, about).await;
        for (process, answer) in gathered.answers {
            spans.extend(answer.spans);
            processes.push(process);
        }
        processes.extend(gathered.missing);
        whose.leave_out(&mut processes, &mut spans);
        spans.sort_by(|a, b| {
            let place = |span: &proto::Span| span.start.map(|at| (at.seconds, at.nanos));
            (place(a), &a.span_id).cmp(&(place(b), &b.span_id))
        });
        Ok(Response::new(proto::GetTraceResponse { spans, processes }))
    }

    async fn list_traces(
        &self,
        request: Request<proto::ListTracesRequest>,
    ) -> Result<Response<proto::ListTracesResponse>, Status> {
        let request = request.into_inner();
        let whose = self.whose(&request.tenant)?;
        let limit = limit(request.limit).map_err(status)?;
        let least = request.min_duration_micros.saturating_mul(1_000);
        let wanted = |trace: &Summary| {
            let fits = trace.root.duration >= least && (trace.failed || !request.failed);
            fits && !is_of_the_mesh(&trace.root.name)
        };
        let spans = &self.sources.spans;
        let own = spans.traces(limit, whose.tenant(), wanted);
        let mut traces: Vec<_> = own.iter().map(convert::summary).collect();
        let mut processes = vec![self.process()];
        let ask = |mut client: Client| {
            let request = proto::ListTracesRequest {
                local: true,
                tenant: whose.tenant().unwrap_or_default().to_owned(),
                ..request
            };
            async move { client.list_traces(request).await }
        };
        let about = |answer: &mut proto::ListTracesResponse| answer.processes.pop();
        let gathered = self.others(request.local, ask, about).await;
        for (process, answer) in gathered.answers {
            traces.extend(answer.traces);
            processes.push(process);
        }
        processes.extend(gathered.missing);
        whose.leave_out(&mut processes, &mut []);
        let mut traces = joined(traces);
        traces.truncate(limit);
        Ok(Response::new(proto::ListTracesResponse {
            traces,
            processes,
        }))
    }

    async fn get_metrics(
        &self,
        request: Request<proto::GetMetricsRequest>,
    ) -> Result<Response<proto::GetMetricsResponse>, Status> {
        self.admit()?;
        let metrics = samples::read(&self.sources.metrics.text());
        let mut processes = vec![proto::ProcessMetrics {
            process: Some(self.process()),
            metrics: metrics.into_iter().map(convert::metric).collect(),
        }];
        let ask = |mut client: Client| {
            let request = proto::GetMetricsRequest { local: true };
            async move { client.get_metrics(request).await }
        };
        let about =
            |answer: &mut proto::GetMetricsResponse| answer.processes.first()?.process.clone();
        let gathered = self.others(request.into_inner().local, ask, about).await;
        for (process, answer) in gathered.answers {
            let metrics = answer.processes.into_iter().flat_map(|told| told.metrics);
            processes.push(proto::ProcessMetrics {
                process: Some(process),
                metrics: metrics.collect(),
            });
        }
        processes.extend(
            gathered
                .missing
                .into_iter()
                .map(|process| proto::ProcessMetrics {
                    process: Some(process),
                    metrics: Vec::new(),
                }),
        );
        Ok(Response::new(proto::GetMetricsResponse { processes }))
    }

    async fn run_checks(
        &self,
        request: Request<proto::RunChecksRequest>,
    ) -> Result<Response<proto::RunChecksResponse>, Status> {
        self.admit()?;
        let asked_at = now();
        let ask = |mut client: Client| {
            let request = proto::RunChecksRequest { local: true };
            async move { client.run_checks(request).await }
        };
        let about =
            |answer: &mut proto::RunChecksResponse| answer.processes.first()?.process.clone();
        let local = request.into_inner().local;
        let (own, gathered) = tokio::join!(
            self.sources.checks.run(&self.sources.spans),
            self.others(local, ask, about)
        );
        let mut processes = vec![proto::ProcessChecks {
            process: Some(self.process()),
            checks: own,
        }];
        for (process, answer) in gathered.answers {
            let checks = answer.processes.into_iter().flat_map(|told| told.checks);
            let mut checks: Vec<_> = checks.collect();
            checks::judge_clock(&mut checks, asked_at, process.time, now());
            processes.push(proto::ProcessChecks {
                process: Some(process),
                checks,
            });
        }
        processes.extend(
            gathered
                .missing
                .into_iter()
                .map(|process| proto::ProcessChecks {
                    checks: vec![checks::unreachable(&process)],
                    process: Some(process),
                }),
        );
        Ok(Response::new(proto::RunChecksResponse { processes }))
    }
}

/// Whose spans a caller is told.
struct Whose {
    /// A tenant's; else everybody's.
    tenant: Option<String>,
    /// And where in the mesh they were made.
    places: bool,
}

impl Whose {
    fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// Where processes are is for operators.
    fn leave_out(&self, processes: &mut [proto::Process], spans: &mut [proto::Span]) {
        if self.places {
            return;
        }
        for process in processes {
            process.endpoint.clear();
            if !process.problem.is_empty() {
                process.problem = "it could not be asked".to_owned();
            }
        }
        for span in spans {
            let attributes = &mut span.attributes;
            attributes.retain(|attribute| !attribute.name.starts_with("server."));
        }
    }
}

/// The refusal of what is told to operators alone.
fn for_operators(what: &str) -> Status {
    let text = format!("{what}; call `service_listen` with a certificate of the role operator");
    let failure = Failure::new(Code::PermissionDenied, "FOR_OPERATORS_ONLY").message(text);
    failure.into_status()
}

fn limit(asked: u32) -> Result<usize, Invalid> {
    match asked {
        0 => Ok(LISTED as usize),
        1..=MOST_LISTED => Ok(asked as usize),
        _ => {
            let problem = format!("expected 1 to {MOST_LISTED}, or 0 for {LISTED}, found {asked}");
            Err(Invalid::new("limit", problem))
        }
    }
}

/// Whoever looks at traces does not look for those of looking, nor for processes that deliver what they recorded.
fn is_of_the_mesh(name: &str) -> bool {
    name.starts_with(super::SERVICE)
        || name.ends_with(".AuditService/RecordCalls")
        || name.starts_with("GET /traces")
        || name.starts_with("GET /telemetry")
}

/// One entry for each trace, from what its processes know: what began first tells its name.
fn joined(traces: Vec<proto::TraceSummary>) -> Vec<proto::TraceSummary> {
    let start = |trace: &proto::TraceSummary| trace.start.map(|at| (at.seconds, at.nanos));
    let mut known: BTreeMap<String, proto::TraceSummary> = BTreeMap::new();
    for trace in traces {
        let Some(first) = known.get_mut(&trace.trace_id) else {
            known.insert(trace.trace_id.clone(), trace);
            continue;
        };
        let (spans, failed) = (first.spans + trace.spans, first.failed || trace.failed);
        if start(&trace) < start(first) {
            *first = trace;
        }
        (first.spans, first.failed) = (spans, failed);
    }
    let mut traces: Vec<_> = known.into_values().collect();
    traces.sort_by(|a, b| (start(b), &b.trace_id).cmp(&(start(a), &a.trace_id)));
    traces
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    convert::time(since.map_or(0, |since| since.as_nanos() as u64))
}
