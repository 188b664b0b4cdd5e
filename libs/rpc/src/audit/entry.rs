//! What is recorded of a call.

use std::collections::BTreeMap;

use commonplace_types::{
    Actor, Digest, Principal, PrincipalKind, ProjectName, Right, Subject, TenantName, Timestamp,
};

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It was let in.
    Allowed,
    /// It was refused, to whoever made it.
    Denied,
    /// Its record could not be taken.
    Lost,
}

impl Verdict {
    /// Its name in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Lost => "lost",
        }
    }
}

/// Whoever made a call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Who {
    /// What kind of somebody.
    pub kind: PrincipalKind,
    /// Its name within the tenant.
    pub subject: Subject,
    /// How it was proved, with the public id of the proof.
    pub credential: String,
    /// Who acts for it, the nearest first.
    pub actors: Vec<Actor>,
}

impl Who {
    pub(crate) fn of(principal: &Principal) -> Self {
        Self {
            kind: principal.kind,
            subject: principal.subject.clone(),
            credential: cut(&principal.credential),
            actors: principal.actors.clone(),
        }
    }
}

/// A call as it is recorded, or several that were refused alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// 32 hex digits.
    pub id: String,
    /// Whose log it belongs to.
    pub tenant: TenantName,
    /// When it was let in or refused; of several, the first.
    pub time: Timestamp,
    /// Of several, the last.
    pub last_time: Timestamp,
    /// How many calls it stands for.
    pub count: u64,
    /// Names the call; of several, the first.
    pub request_id: String,
    /// The trace that it is part of, in 32 hex digits.
    pub trace_id: String,
    /// None: nobody is known to have made it.
    pub who: Option<Who>,
    /// `package.Service/Method`; empty if it is none of the contracts.
    pub method: String,
    /// What was asked for, if anything was.
    pub right: Option<Right>,
    /// None: the tenant, or it is not known.
    pub project: Option<ProjectName>,
    /// What became of it.
    pub verdict: Verdict,
    /// Ids of the policies and grants that decided.
    pub policies: Vec<String>,
    /// The hash of the rules that were asked.
    pub rules: Option<Digest>,
    /// Name of the gRPC status.
    pub code: String,
    /// The reason of its ErrorInfo; empty for `OK`.
    pub reason: String,
    /// Address of the caller at the gateway; empty if it is not known.
    pub peer: String,
    /// Which process recorded it.
    pub service: String,
}

/// Longest text that is recorded of what others may have made up, in bytes.
const TEXT_BYTES: usize = 256;

/// A text within bounds.
pub(super) fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES)].to_owned()
}

/// A new id.
pub(super) fn new_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// The hash in what a refusal tells: `policy_hash`.
pub(super) fn rules_told(metadata: &BTreeMap<String, String>) -> Option<Digest> {
    let told = metadata.get("policy_hash")?.strip_prefix("sha256:")?;
    told.parse().ok()
}
