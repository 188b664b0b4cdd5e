use super::*;
use crate::{LaneInterval, Visible};

fn draft() -> Draft {
    Draft::new(ArtifactType::new("bug").unwrap(), "title", "text")
}

#[test]
fn order_of_lists_does_not_change_the_content() {
    let mut one = draft();
    one.tags = vec!["b".into(), "a".into(), "b".into()];
    let mut two = draft();
    two.tags = vec!["a".into(), "b".into()];
    let (one, two) = (one.checked().unwrap(), two.checked().unwrap());
    assert_eq!(one.checksum(), two.checksum());
    assert_eq!(one.event_id(), two.event_id());
}

#[test]
fn every_field_counts_in_the_content() {
    let changes: Vec<fn(&mut Draft)> = vec![
        |d| d.title = "other".into(),
        |d| d.text = "other".into(),
        |d| d.record_id = Some(RecordId::new("r").unwrap()),
        |d| d.operation = Operation::Retract,
        |d| d.artifact_type = ArtifactType::new("spec").unwrap(),
        |d| d.links.push(Link::new("file", "a")),
        |d| d.tags.push("t".into()),
        |d| d.importance = Importance::MAX,
        |d| d.pinned = true,
        |d| d.scope = Scope::Task,
        |d| d.event_time = Some(Timestamp::MIN),
        |d| d.valid_from = Some(Timestamp::MIN),
        |d| d.valid_to = Some(Timestamp::MIN),
        |d| d.supersedes.push(EventId::derive(&[b"x"])),
        |d| d.agent = "a".into(),
        |d| d.author = "a".into(),
        |d| d.source = "a".into(),
        |d| d.correlation_id = "a".into(),
        |d| d.causation_id = "a".into(),
        |d| d.attributes.push(Attribute::new("k", "v")),
    ];
    let mut seen = vec![draft().checksum()];
    for change in changes {
        let mut changed = draft();
        change(&mut changed);
        seen.push(changed.checksum());
    }
    let all = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), all);
}

#[test]
fn bounds_name_their_field() {
    type Break = fn(&mut Draft);
    let cases: Vec<(&str, Break)> = vec![
        ("title", |d| d.title = "x".repeat(1_025)),
        ("text", |d| d.text = "x".repeat((1 << 20) + 1)),
        ("text", |d| {
            (d.title, d.text) = (String::new(), String::new())
        }),
        ("links[0].relation", |d| {
            d.links.push(Link::new("File", "a"))
        }),
        ("links[0].target", |d| d.links.push(Link::new("file", ""))),
        ("tags[0]", |d| d.tags.push(String::new())),
        ("tags", |d| d.tags = vec!["t".into(); 65]),
        ("attributes[0].key", |d| {
            d.attributes.push(Attribute::new("K", ""))
        }),
        ("attributes", |d| {
            d.attributes = vec![Attribute::new("k", "1"), Attribute::new("k", "2")]
        }),
        ("valid_to", |d| {
            d.valid_from = Some(Timestamp::MAX);
            d.valid_to = Some(Timestamp::MIN);
        }),
        ("record_id", |d| d.operation = Operation::Retract),
        ("agent", |d| d.agent = "x".repeat(257)),
    ];
    for (field, break_it) in cases {
        let mut broken = draft();
        break_it(&mut broken);
        assert_eq!(broken.checked().unwrap_err().field, field);
    }
}

#[test]
fn importance_lies_between_zero_and_one() {
    for wrong in [7.0, -0.1, f64::NAN, f64::INFINITY] {
        assert_eq!(Importance::new(wrong).unwrap_err().field, "importance");
    }
    assert_eq!(Importance::new(0.25).unwrap().millionths(), 250_000);
}

#[test]
fn visibility_is_a_prefix_of_each_lane() {
    let interval = |lane, position| LaneInterval { lane, position };
    let visible = Visible::new(vec![
        interval(2, 3),
        interval(1, 9),
        interval(2, 5),
        interval(7, 0),
    ]);
    assert_eq!(visible.intervals(), [interval(1, 9), interval(2, 5)]);
    assert!(visible.sees(2, 5) && visible.sees(1, 1));
    assert!(!visible.sees(2, 6) && !visible.sees(3, 1) && !visible.sees(7, 1));
}
