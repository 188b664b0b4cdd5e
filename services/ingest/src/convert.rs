//! Ingest's messages between wire and domain.

use std::collections::BTreeMap;

use commonplace_proto::common::EventDraft;
use commonplace_proto::ingest as proto;
use commonplace_proto::journal::AppendResponse;
use commonplace_types::{BranchName, Draft, Invalid, ProjectName, limits};

use crate::adapter::{FORMATS, Format, Refusal, cut_line};
use crate::cancel::Cancel;
use crate::config::Options;
use crate::error::IngestError;
use crate::intake::{Batcher, Intake, Origin, Placed, Ready, Tally};
use crate::redact::{RULES_VERSION, Redactor};

/// Where events go and who sends them.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) project: ProjectName,
    pub(crate) branch: BranchName,
    pub(crate) author: String,
    /// What people call the report; empty where drafts state their own.
    pub(crate) source: String,
    pub(crate) message: String,
}

/// The header of a report, read.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) target: Target,
    pub(crate) format: &'static Format,
    pub(crate) origin: Origin,
    pub(crate) validate_only: bool,
}

/// Reads where events go. Errors: a wrong project or branch.
pub(crate) fn target_from_proto(
    project: &str,
    branch: &str,
    author: &str,
    message: String,
) -> Result<Target, Invalid> {
    Ok(Target {
        project: commonplace_rpc::convert::project_from_proto(project)?,
        branch: commonplace_rpc::convert::branch_from_proto(branch)?,
        author: author.to_owned(),
        source: String::new(),
        message,
    })
}

/// Reads the header of a report. Errors: a wrong project or branch, an unknown format.
pub(crate) fn header_from_proto(header: proto::ReportHeader) -> Result<Header, IngestError> {
    let format = Format::named(&header.format).ok_or_else(|| {
        IngestError::UnknownFormat(header.format.escape_debug().take(60).collect())
    })?;
    let name = match header.name.as_str() {
        "" => String::new(),
        name => format!(" {}", cut_line(name, limits::ACTOR_BYTES)),
    };
    let message = format!(
        "Ingest {} report{name} (redaction rules {RULES_VERSION})",
        format.name
    );
    let target = target_from_proto(&header.project, &header.branch, &header.author, message)
        .map_err(|error| error.under("header"))?;
    let target = Target {
        source: header.name.clone(),
        ..target
    };
    let origin = Origin {
        source: header.name,
        author: header.author,
    };
    Ok(Header {
        target,
        format,
        origin,
        validate_only: header.validate_only,
    })
}

/// Writes what became of a call's drafts. `added`, `duplicates`: as the journal said; `commit`: the last one.
pub(crate) fn summary_to_proto(
    tally: Tally,
    added: u64,
    duplicates: u64,
    commit: String,
) -> proto::IngestSummary {
    let unlisted = tally.refusals_unlisted;
    let mut refusals: Vec<proto::Refusal> = tally
        .refusals
        .into_iter()
        .map(|refusal| proto::Refusal {
            location: refusal.location,
            field: refusal.field,
            reason: refusal.reason,
        })
        .collect();
    if unlisted > 0 {
        let reason = format!("{unlisted} further pieces were refused and are not listed");
        refusals.push(proto::Refusal {
            location: "the rest".into(),
            field: String::new(),
            reason,
        });
    }
    let redaction = |(rule, count)| proto::Redaction { rule, count };
    let type_count = |(artifact_type, count)| proto::TypeCount {
        artifact_type,
        count,
    };
    proto::IngestSummary {
        added,
        duplicates: duplicates + tally.repeats,
        refusals,
        redactions: tally.redactions.into_iter().map(redaction).collect(),
        commit,
        types: tally.types.into_iter().map(type_count).collect(),
    }
}

/// Lists the formats.
pub(crate) fn formats_to_proto() -> proto::ListFormatsResponse {
    let format = |f: &Format| proto::Format {
        name: f.name.into(),
        description: f.description.into(),
    };
    proto::ListFormatsResponse {
        formats: FORMATS.iter().map(format).collect(),
    }
}

/// Drafts of one call, masked and named.
pub(crate) struct Taken {
    pub(crate) batches: Vec<Vec<Placed>>,
    /// One per draft as sent: the place of the first that says the same, so mostly its own; none where it was
    /// refused.
    firsts: Vec<Option<usize>>,
    pub(crate) tally: Tally,
}

impl Taken {
    /// The id of each draft as sent, empty where it was refused. `ids`: by place, of those that were taken.
    pub(crate) fn ids(firsts: &[Option<usize>], ids: Vec<(usize, String)>) -> Vec<String> {
        let by_place: BTreeMap<usize, String> = ids.into_iter().collect();
        let id_of = |first: &Option<usize>| {
            let id = first.and_then(|first| by_place.get(&first));
            id.cloned().unwrap_or_default()
        };
        firsts.iter().map(id_of).collect()
    }

    /// Takes out which drafts say the same.
    pub(crate) fn take_firsts(&mut self) -> Vec<Option<usize>> {
        std::mem::take(&mut self.firsts)
    }
}

/// Reads, masks and names the drafts of one call; each that is wrong is refused with its place.
/// Error: the call has ended.
pub(crate) fn events_from_proto(
    events: Vec<EventDraft>,
    author: String,
    redactor: &Redactor,
    options: &Options,
    cancel: Cancel,
) -> Result<Taken, IngestError> {
    let origin = Origin {
        source: String::new(),
        author,
    };
    let mut intake = Intake::new(redactor, options, origin, true, cancel);
    let mut batcher = Batcher::new(options);
    let mut place_of = BTreeMap::new();
    let mut taken = Taken {
        batches: Vec::new(),
        firsts: Vec::with_capacity(events.len()),
        tally: Tally::default(),
    };
    for (place, event) in events.into_iter().enumerate() {
        let ready =
            commonplace_rpc::convert::draft_from_proto(event).and_then(|draft| intake.ready(draft));
        taken.firsts.push(match ready {
            Ok(Ready::New(draft, size)) => {
                if let Some(id) = draft.id {
                    place_of.insert(id, place);
                }
                taken.batches.extend(batcher.add((place, *draft), size));
                Some(place)
            }
            Ok(Ready::Repeat(id)) => place_of.get(&id).copied(),
            Ok(Ready::Stopped) => return Err(IngestError::Interrupted),
            Err(Invalid { field, problem }) => {
                intake.refuse(Refusal {
                    location: format!("events[{place}]"),
                    field,
                    reason: problem,
                });
                None
            }
        });
    }
    taken.batches.push(batcher.rest());
    taken.batches.retain(|batch| !batch.is_empty());
    taken.tally = intake.tally;
    Ok(taken)
}

/// Drafts of one commit, masked and named.
pub(crate) struct TakenTogether {
    pub(crate) drafts: Vec<Draft>,
    /// One per draft of `drafts`: its place as sent.
    pub(crate) sent: Vec<usize>,
    /// One per draft as sent: its place among `drafts`.
    places: Vec<usize>,
    tally: Tally,
}

/// Reads, masks and names the drafts of one commit. Error: the first that is wrong, by its place; the call has
/// ended.
pub(crate) fn commit_from_proto(
    events: Vec<EventDraft>,
    author: String,
    redactor: &Redactor,
    options: &Options,
    cancel: Cancel,
) -> Result<TakenTogether, IngestError> {
    let origin = Origin {
        source: String::new(),
        author,
    };
    let mut intake = Intake::new(redactor, options, origin, true, cancel);
    let mut drafts: Vec<Draft> = Vec::with_capacity(events.len());
    let mut place_of = BTreeMap::new();
    let (mut places, mut sent) = (Vec::with_capacity(events.len()), Vec::new());
    for (place, event) in events.into_iter().enumerate() {
        let ready =
            commonplace_rpc::convert::draft_from_proto(event).and_then(|draft| intake.ready(draft));
        match ready.map_err(|error| error.under(&format!("events[{place}]")))? {
            Ready::New(draft, _) => {
                if let Some(id) = draft.id {
                    place_of.insert(id, drafts.len());
                }
                places.push(drafts.len());
                sent.push(place);
                drafts.push(*draft);
            }
            Ready::Repeat(id) => places.push(place_of.get(&id).copied().unwrap_or_default()),
            Ready::Stopped => return Err(IngestError::Interrupted),
        }
    }
    Ok(TakenTogether {
        drafts,
        sent,
        places,
        tally: intake.tally,
    })
}

/// Writes what a commit gave; a draft sent twice gets the same answer twice.
pub(crate) fn commit_to_proto(
    answer: AppendResponse,
    taken: TakenTogether,
) -> proto::CommitResponse {
    let event = |place: &usize| {
        let event = answer.events.get(*place).cloned().unwrap_or_default();
        proto::CommittedEvent {
            id: event.id,
            duplicate: event.duplicate,
            position: event.position,
        }
    };
    proto::CommitResponse {
        events: taken.places.iter().map(event).collect(),
        redactions: redactions_to_proto(taken.tally),
        commit: answer.commit,
    }
}

fn redactions_to_proto(tally: Tally) -> Vec<proto::Redaction> {
    let redaction = |(rule, count)| proto::Redaction { rule, count };
    tally.redactions.into_iter().map(redaction).collect()
}
