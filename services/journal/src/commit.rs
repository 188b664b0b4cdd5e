//! Commits and the bytes they are hashed over.
//!
//! Every hashed form is a sequence of parts, each preceded by its length as four little-endian bytes, so
//! that no two sequences give the same bytes. Numbers are little-endian. The first part names the form.

use commonplace_types::{
    BranchName, CommitHash, Digest, EventId, Operation, ProjectName, RecordId, TenantName,
    Timestamp,
};

use crate::merkle;

/// A hashed, atomic group of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Names it: [`Commit::computed_hash`].
    pub hash: CommitHash,
    /// Dense within the project, from 0.
    pub number: u64,
    /// The branch it was made on.
    pub branch: BranchName,
    /// The lane that holds its events, from 1.
    pub lane: u32,
    /// Its first position in the lane; one more than the last when it holds no event.
    pub first_position: u32,
    /// Its last position in the lane.
    pub last_position: u32,
    /// What it builds on; none for commit 0.
    pub parents: Vec<CommitHash>,
    /// [`merkle`] root over its events' leaves.
    pub events_root: Digest,
    /// When it was made; never before the commit with the number below.
    pub time: Timestamp,
    /// Who made it.
    pub author: String,
    /// Why.
    pub message: String,
    /// Bytes of its events' content; not part of the hash.
    pub bytes: u64,
}

impl Commit {
    /// The commit that opens a project: number 0 on `main`, lane 1, without events.
    pub(crate) fn genesis(tenant: &TenantName, project: &ProjectName, time: Timestamp) -> Self {
        let commit = Self {
            hash: Digest::ZERO,
            number: 0,
            branch: BranchName::main(),
            lane: 1,
            first_position: 1,
            last_position: 0,
            parents: Vec::new(),
            events_root: merkle::root(&[]),
            time,
            author: String::new(),
            message: String::new(),
            bytes: 0,
        };
        commit.sealed(tenant, project)
    }

    /// The same commit with the hash it should have.
    pub(crate) fn sealed(mut self, tenant: &TenantName, project: &ProjectName) -> Self {
        self.hash = self.computed_hash(tenant, project);
        self
    }

    /// How many events it holds.
    pub fn event_count(&self) -> u32 {
        (self.last_position + 1).saturating_sub(self.first_position)
    }

    /// SHA-256 over: `commonplace commit v1`, tenant, project, number (8 bytes), branch, lane, first and
    /// last position (4 bytes each), the parents' hashes joined, events root, time (microseconds, 8
    /// bytes), author, message.
    pub fn computed_hash(&self, tenant: &TenantName, project: &ProjectName) -> CommitHash {
        let parents: Vec<u8> = self
            .parents
            .iter()
            .flat_map(|hash| *hash.as_bytes())
            .collect();
        let mut parts = Parts::new("commonplace commit v1");
        parts.put(tenant.as_str().as_bytes());
        parts.put(project.as_str().as_bytes());
        parts.put(&self.number.to_le_bytes());
        parts.put(self.branch.as_str().as_bytes());
        parts.put(&self.lane.to_le_bytes());
        parts.put(&self.first_position.to_le_bytes());
        parts.put(&self.last_position.to_le_bytes());
        parts.put(&parents);
        parts.put(self.events_root.as_bytes());
        parts.put(&self.time.as_micros().to_le_bytes());
        parts.put(self.author.as_bytes());
        parts.put(self.message.as_bytes());
        Digest::of(&[&parts.0])
    }
}

/// What makes a body's hash say nothing about the body once it is erased.
pub(crate) type Salt = [u8; 16];

/// SHA-256 over: `commonplace body v1`, salt, event id, recorded time (microseconds, 8 bytes), trace
/// context, canonical content. With salt and content erased, what is left proves nothing and reveals
/// nothing, and the commit still verifies.
pub(crate) fn body_hash(
    salt: &Salt,
    id: &EventId,
    recorded: Timestamp,
    traceparent: &str,
    content: &[u8],
) -> Digest {
    let mut parts = Parts::new("commonplace body v1");
    parts.put(salt);
    parts.put(id.as_bytes());
    parts.put(&recorded.as_micros().to_le_bytes());
    parts.put(traceparent.as_bytes());
    parts.put(content);
    Digest::of(&[&parts.0])
}

/// The leaf of an event in its commit, over: `commonplace event leaf v1`, operation (0 assert, 1
/// retract), event id, record, [`body_hash`], the superseded events' ids in order, joined.
pub(crate) fn event_leaf(
    operation: Operation,
    id: &EventId,
    record: &RecordId,
    body_hash: &Digest,
    supersedes: &[EventId],
) -> Digest {
    let superseded: Vec<u8> = supersedes.iter().flat_map(|id| *id.as_bytes()).collect();
    let mut parts = Parts::new("commonplace event leaf v1");
    parts.put(&[operation as u8]);
    parts.put(id.as_bytes());
    parts.put(record.as_str().as_bytes());
    parts.put(body_hash.as_bytes());
    parts.put(&superseded);
    merkle::leaf(&parts.0)
}

/// Length-prefixed parts, one after the other.
pub(crate) struct Parts(pub(crate) Vec<u8>);

impl Parts {
    pub(crate) fn new(form: &str) -> Self {
        let mut parts = Self(Vec::with_capacity(256));
        parts.put(form.as_bytes());
        parts
    }

    pub(crate) fn put(&mut self, part: &[u8]) {
        self.0.extend_from_slice(&(part.len() as u32).to_le_bytes());
        self.0.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn genesis() -> Commit {
        let time = Timestamp::parse("2026-01-01T00:00:00Z").unwrap();
        Commit::genesis(
            &TenantName::default_tenant(),
            &ProjectName::default_project(),
            time,
        )
    }

    #[test]
    fn the_hash_of_a_commit_never_changes() {
        let mut commit = genesis();
        assert_eq!(
            commit.hash.to_string(),
            "380ec17e10e8b39fe07fad6f4f36af6ba813cc1f2a13b45a30b5d4ec20148316"
        );
        commit.number = 7;
        commit.parents = vec![Digest::of(&[b"parent"])];
        commit.events_root = Digest::of(&[b"root"]);
        commit.last_position = 3;
        commit.author = "ann".into();
        commit.message = "why".into();
        let commit = commit.sealed(
            &TenantName::default_tenant(),
            &ProjectName::default_project(),
        );
        assert_eq!(
            commit.hash.to_string(),
            "6df6ae009a71afd672a9fe185ea537d39ee773513a85e9663ff2a4ecf411c905"
        );
    }

    #[test]
    fn the_hash_of_an_event_never_changes() {
        let id = EventId::derive(&[b"golden"]);
        let time = Timestamp::parse("2026-01-01T00:00:00Z").unwrap();
        let body = body_hash(&[7; 16], &id, time, "00-trace", b"content");
        let record = RecordId::new("bug:1").unwrap();
        let leaf = event_leaf(Operation::Retract, &id, &record, &body, &[id]);
        assert_eq!(
            leaf.to_string(),
            "8873bc23884e7122d8a1f4899df9febf16df2b0927e26f2ae09f4620d80ab94f"
        );
    }

    #[test]
    fn every_part_of_a_commit_is_hashed() {
        let (tenant, project) = (TenantName::default_tenant(), ProjectName::default_project());
        let base = genesis();
        let changes: [fn(&mut Commit); 10] = [
            |commit| commit.number = 1,
            |commit| commit.branch = BranchName::new("other").unwrap(),
            |commit| commit.lane = 2,
            |commit| commit.first_position = 2,
            |commit| commit.last_position = 1,
            |commit| commit.parents = vec![Digest::ZERO],
            |commit| commit.events_root = Digest::of(&[b"x"]),
            |commit| commit.time = Timestamp::MIN,
            |commit| commit.author = "x".into(),
            |commit| commit.message = "x".into(),
        ];
        for (place, change) in changes.iter().enumerate() {
            let mut changed = base.clone();
            change(&mut changed);
            assert_ne!(
                changed.computed_hash(&tenant, &project),
                base.hash,
                "change {place}"
            );
        }
        let other = ProjectName::new("other").unwrap();
        assert_ne!(base.computed_hash(&tenant, &other), base.hash);
    }
}
