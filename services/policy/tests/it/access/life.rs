//! The life of keys against a simple model of it.

use std::time::Duration;

use commonplace_access::credential::key::{KeyId, KeyRecord, ShownKey};
use commonplace_policy::Options;
use commonplace_proto::policy as proto;
use commonplace_rpc::Code;
use commonplace_testkit::{Backend, Site};
use commonplace_types::{Digest, Principal};
use proptest::prelude::*;

use super::common::*;

/// What is done next.
#[derive(Debug, Clone)]
enum Step {
    Create {
        lifetime: u32,
    },
    Rotate {
        key: usize,
        overlap: u32,
        lifetime: Option<u32>,
    },
    Revoke {
        key: usize,
    },
    Wait {
        seconds: u32,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let span = 1..200_u32;
    let step = prop_oneof![
        2 => span.clone().prop_map(|lifetime| Step::Create { lifetime }),
        4 => (0..4_usize, 0..100_u32, proptest::option::of(span))
            .prop_map(|(key, overlap, lifetime)| Step::Rotate { key, overlap, lifetime }),
        1 => (0..4_usize).prop_map(|key| Step::Revoke { key }),
        3 => (1..90_u32).prop_map(|seconds| Step::Wait { seconds }),
    ];
    proptest::collection::vec(step, 1..24)
}

/// A key as anybody would keep it: every secret that it ever had, and until when each is good.
struct Model {
    id: String,
    /// The secret and its end; none: the key's.
    secrets: Vec<(String, Option<u64>)>,
    expires: u64,
    revoked: bool,
}

impl Model {
    fn ended(&self, now: u64) -> bool {
        self.revoked || self.expires <= now
    }

    fn good(&self, now: u64) -> Vec<&str> {
        let good = |end: &Option<u64>| !self.ended(now) && end.is_none_or(|end| now < end);
        let secrets = self.secrets.iter().filter(|(_, end)| good(end));
        secrets.map(|(secret, _)| secret.as_str()).collect()
    }
}

struct World {
    running: Running,
    client: Client,
    now: u64,
    keys: Vec<Model>,
    site: Site,
}

impl World {
    async fn new() -> Self {
        let site = Site::new(Backend::Sqlite);
        let running = Running::start(&site, Options::default()).await;
        Self {
            client: running.client(),
            running,
            now: 0,
            keys: Vec::new(),
            site,
        }
    }

    async fn step(&mut self, step: &Step) {
        let count = self.keys.len();
        match *step {
            Step::Create { lifetime } => self.create(lifetime).await,
            Step::Rotate {
                key,
                overlap,
                lifetime,
            } if count > 0 => {
                self.rotate(key % count, overlap, lifetime).await;
            }
            Step::Revoke { key } if count > 0 => self.revoke(key % count).await,
            Step::Wait { seconds } => {
                self.running
                    .clock
                    .advance(Duration::from_secs(seconds.into()));
                self.now += u64::from(seconds);
            }
            Step::Rotate { .. } | Step::Revoke { .. } => {}
        }
    }

    async fn create(&mut self, lifetime: u32) {
        let request = proto::CreateKeyRequest {
            lifetime: seconds(lifetime.into()),
            ..agent("a")
        };
        let made = told(by(&admin("acme"), self.client.create_key(request)).await).unwrap();
        self.keys.push(Model {
            id: made.key.unwrap().id,
            secrets: vec![(made.secret, None)],
            expires: self.now + u64::from(lifetime),
            revoked: false,
        });
    }

    async fn rotate(&mut self, key: usize, overlap: u32, lifetime: Option<u32>) {
        let now = self.now;
        let model = &mut self.keys[key];
        let request = proto::RotateKeyRequest {
            id: model.id.clone(),
            overlap: seconds(overlap.into()),
            lifetime: lifetime.and_then(|span| seconds(span.into())),
        };
        match told(by(&admin("acme"), self.client.rotate_key(request)).await) {
            Ok(rotated) => {
                assert!(!model.ended(now), "an ended key has no new secret");
                for (_, end) in &mut model.secrets {
                    *end = match end {
                        None => Some(now + u64::from(overlap)),
                        // Two are good at most.
                        Some(_) => Some(0),
                    };
                }
                model.secrets.push((rotated.secret, None));
                if let Some(span) = lifetime {
                    model.expires = now + u64::from(span);
                }
            }
            Err(failure) => {
                assert!(model.ended(now), "{failure:?}");
                assert_eq!(
                    (failure.code, failure.reason.as_str()),
                    (Code::FailedPrecondition, "KEY_ENDED")
                );
            }
        }
    }

    async fn revoke(&mut self, key: usize) {
        let model = &mut self.keys[key];
        let request = proto::RevokeKeyRequest {
            id: model.id.clone(),
        };
        let revoked = told(by(&admin("acme"), self.client.revoke_key(request)).await).unwrap();
        assert!(revoked.key.unwrap().revoke_time.is_some());
        model.revoked = true;
    }

    /// Every secret that ever was is good exactly when the model says so.
    async fn check(&mut self) {
        for model in &self.keys {
            let request = proto::FindKeyRequest {
                id: model.id.clone(),
            };
            let found = told(self.client.find_key(request).await).unwrap();
            let hashes = found
                .secret_hashes
                .iter()
                .map(|hash| Digest::from_slice(hash).unwrap());
            let record = KeyRecord {
                principal: Principal::developer(),
                secret_hashes: hashes.collect(),
            };
            let has = |secret: &&str| record.has(&ShownKey::parse(secret).unwrap());
            let ever = model.secrets.iter().map(|(secret, _)| secret.as_str());
            let good: Vec<&str> = ever.filter(has).collect();
            assert_eq!(
                good,
                model.good(self.now),
                "key {} at {}",
                model.id,
                self.now
            );
            assert!(KeyId::new(&*model.id).is_ok());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn secrets_are_good_as_long_as_they_should(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for step in &steps {
                world.step(step).await;
                world.check().await;
            }
            world.running.policies.shutdown().await.unwrap();
            drop(world.site);
        });
    }
}
