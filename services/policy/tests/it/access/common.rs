//! A service, its clock, and who calls it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use commonplace_access::credential::key::Randomness;
use commonplace_policy::{Options, Policies};
use commonplace_proto::policy as proto;
use commonplace_proto::policy::access_service_client::AccessServiceClient;
use commonplace_rpc::context::{self, Call};
use commonplace_rpc::{Channel, Failure};
use commonplace_testkit::Site;
use commonplace_types::{Invalid, ManualClock, Principal, TenantName, Timestamp};
use tonic::service::Routes;

pub type Client = AccessServiceClient<Channel>;

/// Randomness that is another each time, and the same in each run.
#[derive(Default)]
pub struct Sequence(AtomicU8);

impl Randomness for Sequence {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), Invalid> {
        bytes.fill(self.0.fetch_add(1, Ordering::SeqCst));
        Ok(())
    }
}

/// A running service.
pub struct Running {
    pub policies: Policies,
    pub clock: Arc<ManualClock>,
    channel: Channel,
}

impl Running {
    pub async fn start(site: &Site, options: Options) -> Self {
        let now = Timestamp::parse("2026-11-21T08:00:30Z").unwrap();
        let clock = Arc::new(ManualClock::new(now));
        let place = site.place("policy");
        let randomness = Arc::new(Sequence::default());
        let policies = commonplace_policy::start_with(options, place, clock.clone(), randomness)
            .await
            .unwrap();
        let channel = Channel::in_process(Routes::new(policies.access_service()).prepare());
        Self {
            policies,
            clock,
            channel,
        }
    }

    pub fn client(&self) -> Client {
        AccessServiceClient::new(self.channel.clone())
    }
}

/// An administrator of a tenant, by name.
pub fn admin(tenant: &str) -> Principal {
    Principal {
        tenant: TenantName::new(tenant).unwrap(),
        ..Principal::developer()
    }
}

/// Runs what a principal does.
pub async fn by<T>(principal: &Principal, work: impl Future<Output = T>) -> T {
    let call = Call {
        tenant: principal.tenant.clone(),
        principal: Some(Arc::new(principal.clone())),
        ..Call::root(None)
    };
    // The layer around the service is left out here, so the context is that of the caller's task.
    context::scope(call, work).await
}

/// What a call answered, or how it failed.
pub fn told<T>(answer: Result<tonic::Response<T>, tonic::Status>) -> Result<T, Failure> {
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| Failure::from_status(&status))
}

/// A key to be, of an agent.
pub fn agent(subject: &str) -> proto::CreateKeyRequest {
    proto::CreateKeyRequest {
        subject: subject.into(),
        roles: vec!["writer".into(), "reader".into()],
        ..Default::default()
    }
}

/// A read grant over a project to a user.
pub fn reads(user: &str, project: &str) -> proto::CreateGrantRequest {
    proto::CreateGrantRequest {
        grantee: Some(proto::Grantee {
            who: Some(proto::grantee::Who::User(user.into())),
        }),
        right: commonplace_proto::common::Right::Read.into(),
        resource: Some(proto::GrantResource {
            project: project.into(),
            ..Default::default()
        }),
    }
}

/// A policy to be put.
pub fn policy(id: &str, source: &str) -> proto::PutAccessPolicyRequest {
    proto::PutAccessPolicyRequest {
        id: id.into(),
        source: source.into(),
        validate_only: false,
    }
}

/// A span of whole seconds.
pub fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// Fields that a failure names.
pub fn fields(failure: &Failure) -> Vec<&str> {
    failure
        .fields
        .iter()
        .map(|field| field.field.as_str())
        .collect()
}
