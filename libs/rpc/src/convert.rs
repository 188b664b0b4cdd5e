//! The shared nouns between wire and domain. Each failure names its field.

use commonplace_proto::common as proto;
use commonplace_types::{
    ArtifactType, Attribute, BranchName, Draft, Event, EventId, Importance, Invalid, LaneInterval,
    Link, Operation, ProjectName, RecordId, Reference, Scope, TagName, Timestamp, Visible,
};

/// Reads a project's name; empty means the default project.
pub fn project_from_proto(name: &str) -> Result<ProjectName, Invalid> {
    if name.is_empty() {
        Ok(ProjectName::default_project())
    } else {
        ProjectName::new(name)
    }
}

/// Reads a branch's name; empty means `main`.
pub fn branch_from_proto(name: &str) -> Result<BranchName, Invalid> {
    if name.is_empty() {
        Ok(BranchName::main())
    } else {
        BranchName::new(name)
    }
}

/// Writes a moment.
pub fn timestamp_to_proto(time: Timestamp) -> prost_types::Timestamp {
    let (seconds, nanos) = time.as_seconds();
    prost_types::Timestamp { seconds, nanos }
}

/// Reads a moment of the named field. Error: outside the years 1970 to 9999.
pub fn timestamp_from_proto(
    time: &prost_types::Timestamp,
    field: &str,
) -> Result<Timestamp, Invalid> {
    Timestamp::from_seconds(time.seconds, time.nanos).map_err(|error| error.under(field))
}

fn optional_time(
    time: Option<prost_types::Timestamp>,
    field: &str,
) -> Result<Option<Timestamp>, Invalid> {
    time.map(|time| timestamp_from_proto(&time, field))
        .transpose()
}

/// Reads a point in history; absent or empty means the head of `main`.
pub fn reference_from_proto(reference: Option<proto::Reference>) -> Result<Reference, Invalid> {
    use proto::reference::Point;
    match reference.and_then(|reference| reference.point) {
        None => Ok(Reference::main()),
        Some(Point::Branch(name)) => Ok(Reference::Branch(branch_from_proto(&name)?)),
        Some(Point::Tag(name)) => Ok(Reference::Tag(TagName::new(name)?)),
        Some(Point::Commit(text)) => Reference::commit(&text),
    }
}

/// Writes a point in history.
pub fn reference_to_proto(reference: &Reference) -> proto::Reference {
    use proto::reference::Point;
    let point = match reference {
        Reference::Branch(name) => Point::Branch(name.to_string()),
        Reference::Tag(name) => Point::Tag(name.to_string()),
        Reference::Commit(hash) => Point::Commit(hash.to_string()),
        Reference::Prefix(prefix) => Point::Commit(prefix.clone()),
    };
    proto::Reference { point: Some(point) }
}

/// Writes what a commit sees.
pub fn visible_to_proto(visible: &Visible) -> Vec<proto::LaneInterval> {
    let interval = |i: &LaneInterval| proto::LaneInterval {
        lane: i.lane.into(),
        position: i.position.into(),
    };
    visible.intervals().iter().map(interval).collect()
}

/// Reads what a commit sees. Error: a lane or position that cannot be.
pub fn visible_from_proto(intervals: &[proto::LaneInterval]) -> Result<Visible, Invalid> {
    let small = |value: u64, field: &str| {
        u32::try_from(value)
            .map_err(|_| Invalid::new(field, format!("expected below 2^32, found {value}")))
    };
    let read = |i: &proto::LaneInterval| {
        Ok(LaneInterval {
            lane: small(i.lane, "lane")?,
            position: small(i.position, "position")?,
        })
    };
    Ok(Visible::new(
        intervals.iter().map(read).collect::<Result<_, Invalid>>()?,
    ))
}

fn operation_to_proto(operation: Operation) -> proto::Operation {
    match operation {
        Operation::Assert => proto::Operation::Assert,
        Operation::Retract => proto::Operation::Retract,
    }
}

fn operation_from_proto(value: i32) -> Result<Operation, Invalid> {
    match proto::Operation::try_from(value) {
        Ok(proto::Operation::Unspecified | proto::Operation::Assert) => Ok(Operation::Assert),
        Ok(proto::Operation::Retract) => Ok(Operation::Retract),
        Err(_) => Err(Invalid::new(
            "operation",
            format!("expected assert or retract, found {value}"),
        )),
    }
}

fn scope_to_proto(scope: Scope) -> proto::Scope {
    match scope {
        Scope::Global => proto::Scope::Global,
        Scope::Session => proto::Scope::Session,
        Scope::Task => proto::Scope::Task,
    }
}

fn scope_from_proto(value: i32) -> Result<Scope, Invalid> {
    match proto::Scope::try_from(value) {
        Ok(proto::Scope::Unspecified | proto::Scope::Global) => Ok(Scope::Global),
        Ok(proto::Scope::Session) => Ok(Scope::Session),
        Ok(proto::Scope::Task) => Ok(Scope::Task),
        Err(_) => Err(Invalid::new(
            "scope",
            format!("expected global, session or task, found {value}"),
        )),
    }
}

fn links_to_proto(links: &[Link]) -> Vec<proto::Link> {
    let link = |l: &Link| proto::Link {
        relation: l.relation.clone(),
        target: l.target.clone(),
    };
    links.iter().map(link).collect()
}

fn attributes_to_proto(attributes: &[Attribute]) -> Vec<proto::Attribute> {
    let attribute = |a: &Attribute| proto::Attribute {
        key: a.key.clone(),
        value: a.value.clone(),
    };
    attributes.iter().map(attribute).collect()
}

fn ids_from_proto(ids: &[String], field: &str) -> Result<Vec<EventId>, Invalid> {
    let read = |(place, id): (usize, &String)| {
        id.parse()
            .map_err(|error: Invalid| Invalid::new(format!("{field}[{place}]"), error.problem))
    };
    ids.iter().enumerate().map(read).collect()
}

/// Reads what a writer states, and brings it into its canonical form. Error: the wrong field.
pub fn draft_from_proto(draft: proto::EventDraft) -> Result<Draft, Invalid> {
    let id = if draft.id.is_empty() {
        None
    } else {
        Some(draft.id.parse()?)
    };
    let record_id = if draft.record_id.is_empty() {
        None
    } else {
        Some(RecordId::new(draft.record_id)?)
    };
    Draft {
        id,
        record_id,
        operation: operation_from_proto(draft.operation)?,
        artifact_type: ArtifactType::new(draft.artifact_type)?,
        title: draft.title,
        text: draft.text,
        links: draft
            .links
            .into_iter()
            .map(|l| Link::new(l.relation, l.target))
            .collect(),
        tags: draft.tags,
        importance: draft
            .importance
            .map_or(Ok(Importance::default()), Importance::new)?,
        pinned: draft.pinned,
        scope: scope_from_proto(draft.scope)?,
        event_time: optional_time(draft.event_time, "event_time")?,
        valid_from: optional_time(draft.valid_from, "valid_from")?,
        valid_to: optional_time(draft.valid_to, "valid_to")?,
        supersedes: ids_from_proto(&draft.supersedes, "supersedes")?,
        supersede_heads: draft.supersede_heads,
        agent: draft.agent,
        author: draft.author,
        source: draft.source,
        correlation_id: draft.correlation_id,
        causation_id: draft.causation_id,
        attributes: draft
            .attributes
            .into_iter()
            .map(|a| Attribute::new(a.key, a.value))
            .collect(),
    }
    .checked()
}

/// Writes what a writer states.
pub fn draft_to_proto(draft: &Draft) -> proto::EventDraft {
    proto::EventDraft {
        id: draft.id.map(|id| id.to_string()).unwrap_or_default(),
        record_id: draft
            .record_id
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        operation: operation_to_proto(draft.operation).into(),
        artifact_type: draft.artifact_type.to_string(),
        title: draft.title.clone(),
        text: draft.text.clone(),
        links: links_to_proto(&draft.links),
        tags: draft.tags.clone(),
        importance: Some(draft.importance.value()),
        pinned: draft.pinned,
        scope: scope_to_proto(draft.scope).into(),
        event_time: draft.event_time.map(timestamp_to_proto),
        valid_from: draft.valid_from.map(timestamp_to_proto),
        valid_to: draft.valid_to.map(timestamp_to_proto),
        supersedes: draft.supersedes.iter().map(ToString::to_string).collect(),
        supersede_heads: draft.supersede_heads,
        agent: draft.agent.clone(),
        author: draft.author.clone(),
        source: draft.source.clone(),
        correlation_id: draft.correlation_id.clone(),
        causation_id: draft.causation_id.clone(),
        attributes: attributes_to_proto(&draft.attributes),
    }
}

/// Writes a recorded event.
pub fn event_to_proto(project: &ProjectName, event: &Event) -> proto::Event {
    let draft = &event.draft;
    proto::Event {
        id: event.id.to_string(),
        project: project.to_string(),
        record_id: event.record_id.to_string(),
        operation: operation_to_proto(draft.operation).into(),
        artifact_type: draft.artifact_type.to_string(),
        title: draft.title.clone(),
        text: draft.text.clone(),
        links: links_to_proto(&draft.links),
        tags: draft.tags.clone(),
        importance: draft.importance.value(),
        pinned: draft.pinned,
        scope: scope_to_proto(draft.scope).into(),
        event_time: Some(timestamp_to_proto(event.event_time())),
        recorded_time: Some(timestamp_to_proto(event.recorded_time)),
        valid_from: draft.valid_from.map(timestamp_to_proto),
        valid_to: draft.valid_to.map(timestamp_to_proto),
        checksum: event.checksum_text(),
        supersedes: draft.supersedes.iter().map(ToString::to_string).collect(),
        agent: draft.agent.clone(),
        author: draft.author.clone(),
        source: draft.source.clone(),
        correlation_id: draft.correlation_id.clone(),
        causation_id: draft.causation_id.clone(),
        traceparent: event.traceparent.clone(),
        attributes: attributes_to_proto(&draft.attributes),
    }
}

/// Reads a recorded event, as another service sent it. Error: the wrong field.
pub fn event_from_proto(event: proto::Event) -> Result<Event, Invalid> {
    let checksum = event
        .checksum
        .strip_prefix("sha256:")
        .unwrap_or(&event.checksum);
    let recorded = event
        .recorded_time
        .ok_or_else(|| Invalid::new("recorded_time", "expected a time"))?;
    let id = event.id.parse()?;
    let record_id = RecordId::new(event.record_id)?;
    let draft = Draft {
        id: Some(id),
        record_id: Some(record_id.clone()),
        operation: operation_from_proto(event.operation)?,
        artifact_type: ArtifactType::new(event.artifact_type)?,
        title: event.title,
        text: event.text,
        links: event
            .links
            .into_iter()
            .map(|l| Link::new(l.relation, l.target))
            .collect(),
        tags: event.tags,
        importance: Importance::new(event.importance)?,
        pinned: event.pinned,
        scope: scope_from_proto(event.scope)?,
        event_time: optional_time(event.event_time, "event_time")?,
        valid_from: optional_time(event.valid_from, "valid_from")?,
        valid_to: optional_time(event.valid_to, "valid_to")?,
        supersedes: ids_from_proto(&event.supersedes, "supersedes")?,
        supersede_heads: false,
        agent: event.agent,
        author: event.author,
        source: event.source,
        correlation_id: event.correlation_id,
        causation_id: event.causation_id,
        attributes: event
            .attributes
            .into_iter()
            .map(|a| Attribute::new(a.key, a.value))
            .collect(),
    };
    Ok(Event {
        id,
        record_id,
        draft,
        recorded_time: timestamp_from_proto(&recorded, "recorded_time")?,
        checksum: checksum
            .parse()
            .map_err(|error: Invalid| error.under("checksum"))?,
        traceparent: event.traceparent,
    })
}

/// Which events to take, read and checked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    /// Any of these, sorted; empty means all.
    pub artifact_types: Vec<ArtifactType>,
    /// At least one of these, sorted; empty means all.
    pub tags_any: Vec<String>,
    /// Any of these, sorted; empty means all.
    pub agents: Vec<String>,
    /// Any of these, sorted; empty means all.
    pub sources: Vec<String>,
    /// Any of these, sorted; empty means all.
    pub record_ids: Vec<RecordId>,
    /// Not before.
    pub from_time: Option<Timestamp>,
    /// Before.
    pub to_time: Option<Timestamp>,
    /// At least.
    pub min_importance: Option<Importance>,
    /// Pinned ones only.
    pub pinned_only: bool,
    /// All of these, sorted.
    pub attributes: Vec<Attribute>,
    /// Exactly this; empty means any.
    pub correlation_id: String,
}

impl Filter {
    /// Checks that the filter is in the form in which [`filter_from_proto`] gives it: lists sorted and without
    /// repeats, conditions that take everything left out. Error: the field that is not.
    pub fn checked_form(&self) -> Result<(), Invalid> {
        fn sorted<T: Ord>(values: &[T]) -> bool {
            values.is_sorted_by(|a, b| a < b)
        }
        let lists = [
            ("artifact_types", sorted(&self.artifact_types)),
            ("tags_any", sorted(&self.tags_any)),
            ("agents", sorted(&self.agents)),
            ("sources", sorted(&self.sources)),
            ("record_ids", sorted(&self.record_ids)),
            ("attributes", sorted(&self.attributes)),
        ];
        if let Some((field, _)) = lists.into_iter().find(|(_, sorted)| !sorted) {
            return Err(Invalid::new(
                field,
                "expected sorted values without repeats",
            ));
        }
        if self
            .min_importance
            .is_some_and(|least| least.millionths() == 0)
        {
            return Err(Invalid::new(
                "min_importance",
                "expected more than 0, or nothing",
            ));
        }
        Ok(())
    }
}

/// Reads which events to take. Error: the wrong field, as `filter.…`.
pub fn filter_from_proto(filter: Option<proto::EventFilter>) -> Result<Filter, Invalid> {
    let filter = filter.unwrap_or_default();
    let read = || -> Result<Filter, Invalid> {
        let types = filter
            .artifact_types
            .into_iter()
            .map(ArtifactType::new)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Invalid::new("artifact_types", error.problem))?;
        let records = filter
            .record_ids
            .into_iter()
            .map(RecordId::new)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Invalid::new("record_ids", error.problem))?;
        let importance = Importance::new(filter.min_importance)
            .map_err(|error| Invalid::new("min_importance", error.problem))?;
        Ok(Filter {
            artifact_types: sorted(types),
            tags_any: sorted(filter.tags_any),
            agents: sorted(filter.agents),
            sources: sorted(filter.sources),
            record_ids: sorted(records),
            from_time: optional_time(filter.from_time, "from_time")?,
            to_time: optional_time(filter.to_time, "to_time")?,
            min_importance: (importance.millionths() > 0).then_some(importance),
            pinned_only: filter.pinned_only,
            attributes: sorted(
                filter
                    .attributes
                    .into_iter()
                    .map(|a| Attribute::new(a.key, a.value))
                    .collect(),
            ),
            correlation_id: filter.correlation_id,
        })
    };
    read().map_err(|error| error.under("filter"))
}

/// Writes which events to take.
pub fn filter_to_proto(filter: &Filter) -> proto::EventFilter {
    proto::EventFilter {
        artifact_types: filter
            .artifact_types
            .iter()
            .map(ToString::to_string)
            .collect(),
        tags_any: filter.tags_any.clone(),
        agents: filter.agents.clone(),
        sources: filter.sources.clone(),
        record_ids: filter.record_ids.iter().map(ToString::to_string).collect(),
        from_time: filter.from_time.map(timestamp_to_proto),
        to_time: filter.to_time.map(timestamp_to_proto),
        min_importance: filter.min_importance.map_or(0.0, Importance::value),
        pinned_only: filter.pinned_only,
        attributes: attributes_to_proto(&filter.attributes),
        correlation_id: filter.correlation_id.clone(),
    }
}

fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort();
    values.dedup();
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_survives_the_wire() {
        let mut draft = Draft::new(ArtifactType::new("bug").unwrap(), "t", "x");
        draft.record_id = Some(RecordId::new("bug:1").unwrap());
        draft.links = vec![Link::new("file", "src/a.rs")];
        draft.tags = vec!["a".into()];
        draft.event_time = Some(Timestamp::parse("2026-01-02T03:04:05.678901Z").unwrap());
        draft.attributes = vec![Attribute::new("verdict", "failed")];
        draft.supersedes = vec![EventId::derive(&[b"x"])];
        let draft = draft.checked().unwrap();
        assert_eq!(draft_from_proto(draft_to_proto(&draft)).unwrap(), draft);
    }

    #[test]
    fn a_wrong_field_is_named() {
        let wrong = |change: fn(&mut proto::EventDraft)| {
            let mut draft = proto::EventDraft {
                artifact_type: "bug".into(),
                title: "t".into(),
                ..Default::default()
            };
            change(&mut draft);
            draft_from_proto(draft).unwrap_err().field
        };
        assert_eq!(wrong(|d| d.importance = Some(7.0)), "importance");
        assert_eq!(wrong(|d| d.artifact_type.clear()), "artifact_type");
        let year_30000 = prost_types::Timestamp {
            seconds: 884_541_340_800,
            nanos: 0,
        };
        assert_eq!(
            wrong(|d| d.event_time = Some(prost_types::Timestamp {
                seconds: 884_541_340_800,
                nanos: 0
            })),
            "event_time"
        );
        assert!(timestamp_from_proto(&year_30000, "x").is_err());
        assert_eq!(
            wrong(|d| d.supersedes = vec!["nope".into()]),
            "supersedes[0]"
        );
    }
}
