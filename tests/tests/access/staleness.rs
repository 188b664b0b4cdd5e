//! What is taken back is taken back everywhere within the stated delay, under load; what is given and what is
//! rotated fails no call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use commonplace_proto::journal::QueryEventsRequest;
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_proto::policy::access_service_client::AccessServiceClient;
use commonplace_proto::policy::{RevokeKeyRequest, RotateKeyRequest};
use commonplace_rpc::{Channel, context};
use commonplace_types::TenantName;

use super::common::{House, Person, REFRESH_MS};

pub async fn read(channel: &Channel) -> bool {
    let request = QueryEventsRequest {
        project: "vault".into(),
        ..QueryEventsRequest::default()
    };
    let mut journal = JournalServiceClient::new(channel.clone());
    let call = journal.query_events(request);
    context::with_deadline(Duration::from_secs(5), call)
        .await
        .is_ok()
}

/// Asks steadily from several sides until told to stop; gives when the last call was let in, and how many
/// failed before a moment.
pub struct Load {
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicUsize>,
    done: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<Option<Instant>>>,
}

impl Load {
    pub fn start(channel: &Channel) -> Self {
        let (stop, failed, done) = (Arc::default(), Arc::default(), Arc::default());
        let one = |_| {
            let (channel, stop): (Channel, Arc<AtomicBool>) = (channel.clone(), Arc::clone(&stop));
            let (failed, done): (Arc<AtomicUsize>, Arc<AtomicUsize>) =
                (Arc::clone(&failed), Arc::clone(&done));
            tokio::spawn(async move {
                let mut last = None;
                while !stop.load(Ordering::SeqCst) {
                    // When it began: a call that was let in before may answer after.
                    let began = Instant::now();
                    match read(&channel).await {
                        true => last = Some(began),
                        false => {
                            failed.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                    // Steadily, and not as much as the machine can.
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                last
            })
        };
        let tasks = (0..4).map(one).collect();
        Self {
            stop,
            failed,
            done,
            tasks,
        }
    }

    pub fn failed(&self) -> usize {
        self.failed.load(Ordering::SeqCst)
    }

    pub fn done(&self) -> usize {
        self.done.load(Ordering::SeqCst)
    }

    pub async fn last_success(self) -> Option<Instant> {
        self.stop.store(true, Ordering::SeqCst);
        let mut last = None;
        for task in self.tasks {
            last = last.max(task.await.unwrap());
        }
        last
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_refused_within_the_stated_delay_and_a_rotated_one_fails_no_call() {
    let house = House::new().await;
    house.write("acme", "vault", "note", "gold").await;
    let person = Person {
        name: "reader",
        roles: &["reader"],
        scopes: None,
    };
    let (id, old) = house.key("acme", &person).await;
    let acme = TenantName::new("acme").unwrap();
    let mut access = AccessServiceClient::new(house.operator.policy.clone());
    let by_old = Load::start(&house.channel(Some(&old)));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let rotate = RotateKeyRequest {
        id: id.clone(),
        ..RotateKeyRequest::default()
    };
    let call = async { access.rotate_key(rotate).await.unwrap().into_inner() };
    let new = context::for_tenant(acme.clone(), call).await.secret;
    // The new secret is known everywhere once the stated delay is over; the old one is good meanwhile.
    tokio::time::sleep(Duration::from_millis(REFRESH_MS)).await;
    let by_new = Load::start(&house.channel(Some(&new)));
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(by_old.done() > 20);
    assert_eq!((by_old.failed(), by_new.failed()), (0, 0));

    let revoke = RevokeKeyRequest { id };
    let call = async { access.revoke_key(revoke).await.unwrap() };
    context::for_tenant(acme, call).await;
    let revoked = Instant::now();
    tokio::time::sleep(Duration::from_millis(3 * REFRESH_MS)).await;
    for load in [by_old, by_new] {
        assert!(load.failed() > 0);
        let last = load.last_success().await.unwrap();
        let honoured = last.saturating_duration_since(revoked);
        assert!(
            honoured <= Duration::from_millis(REFRESH_MS),
            "honoured for {honoured:?}"
        );
    }
    house.close().await;
}
