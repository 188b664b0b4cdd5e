//! Asks every process that a gateway knows.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use commonplace_proto::telemetry::Process;
use commonplace_proto::telemetry::telemetry_service_client::TelemetryServiceClient;
use commonplace_rpc::server::MESSAGE_BYTES;
use commonplace_rpc::{Channel, Failure, context};
use futures::future::join_all;
use tonic::{Response, Status};

use crate::Role;

/// How long a process may take to tell about itself.
const PATIENCE: Duration = Duration::from_secs(2);

/// A client of one process.
pub(super) type Client = TelemetryServiceClient<Channel>;

/// What came of asking.
pub(super) struct Gathered<T> {
    /// Each process once: itself, with where it was asked, and its answer.
    pub(super) answers: Vec<(Process, T)>,
    /// Those that could not be asked.
    pub(super) missing: Vec<Process>,
}

/// Asks every endpoint of every peer at the same time, in the name of this process. `own`: its id; it is asked by nobody.
/// `about`: what an answer says of its process.
pub(super) async fn ask<T, F>(
    own: &str,
    peers: &[(Role, Channel)],
    call: impl Fn(Client) -> F,
    about: impl Fn(&mut T) -> Option<Process>,
) -> Gathered<T>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let mut waiting = Vec::new();
    let mut missing = Vec::new();
    for (role, channel) in peers {
        let endpoints = channel.endpoints();
        if endpoints.is_empty() {
            missing.push(absent(*role, "", "no endpoint takes calls"));
        }
        let role = *role;
        for endpoint in endpoints.iter() {
            let client = Client::new(channel.to(endpoint)).max_decoding_message_size(MESSAGE_BYTES);
            let asked = context::with_deadline(PATIENCE, call(client));
            let address = endpoint.to_string();
            waiting.push(async move { (role, address, asked.await) });
        }
    }
    let mut seen = BTreeSet::from([own.to_owned()]);
    let mut answers = Vec::new();
    // Who may ask was decided here; a process believes a name of a service only of that service.
    for (role, endpoint, answer) in context::in_own_name(join_all(waiting)).await {
        match answer.map(Response::into_inner) {
            Ok(mut answer) => {
                let process = about(&mut answer).unwrap_or_default();
                // A process that plays several roles is found at several addresses.
                if seen.insert(process.id.clone()) {
                    answers.push((
                        Process {
                            endpoint,
                            ..process
                        },
                        answer,
                    ));
                }
            }
            Err(status) => {
                let problem = Failure::from_status(&status).message;
                missing.push(absent(role, &endpoint, &problem));
            }
        }
    }
    Gathered { answers, missing }
}

fn absent(role: Role, endpoint: &str, problem: &str) -> Process {
    Process {
        roles: vec![role.to_string()],
        endpoint: endpoint.to_owned(),
        problem: problem.to_owned(),
        ..Process::default()
    }
}
