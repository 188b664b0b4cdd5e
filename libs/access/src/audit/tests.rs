use std::io::Cursor;

use commonplace_rpc::audit::{Entry, Verdict, Who};
use commonplace_types::{
    Actor, Digest, PrincipalKind, ProjectName, Right, Subject, TenantName, Timestamp,
};
use proptest::prelude::*;

use super::convert::entry_to_proto;
use super::*;

/// The bytes of [`golden`], written down once by another program.
const GOLDEN: &str = include_str!("../../tests/golden/audit_record_1.hex");
const GOLDEN_HASH: &str = "63aa0142d7fca109ad7cec234bb3aaf89e68952044a348fddcf6b1593f0af282";

fn acme() -> TenantName {
    TenantName::new("acme").unwrap()
}

fn golden() -> Entry {
    let time = Timestamp::from_micros(1_795_248_000_000_001).unwrap();
    Entry {
        id: "0123456789abcdef0123456789abcdef".into(),
        tenant: acme(),
        time,
        last_time: time,
        count: 1,
        request_id: "request-1".into(),
        trace_id: "0af7651916cd43dd8448eb211c80319c".into(),
        who: Some(Who {
            kind: PrincipalKind::User,
            subject: Subject::new("alice").unwrap(),
            credential: "key:aaaaaaaaaaaaaaaa".into(),
            actors: vec![Actor {
                kind: PrincipalKind::Agent,
                subject: Subject::new("fixer").unwrap(),
            }],
        }),
        method: "commonplace.ingest.v1.IngestService/Commit".into(),
        right: Some(Right::Write),
        project: Some(ProjectName::new("shop").unwrap()),
        verdict: Verdict::Allowed,
        policies: vec!["role-writer".into()],
        rules: Some(Digest::from_bytes([7; 32])),
        code: "OK".into(),
        reason: String::new(),
        peer: "192.0.2.7".into(),
        service: "gateway".into(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_bytes_of_version_one_never_change() {
    let written: String = GOLDEN.split_whitespace().collect();
    assert_eq!(hex(&canonical::write(1, &golden())), written);
    let record = Record::after(&Head::START, golden());
    assert_eq!(record.hash.to_string(), GOLDEN_HASH);
    let read = canonical::read(&canonical::write(1, &golden())).unwrap();
    assert_eq!(read, (1, golden()));
}

#[test]
fn nobody_is_nobody_all_the_way() {
    let nobody = Entry {
        who: None,
        right: None,
        project: None,
        rules: None,
        policies: Vec::new(),
        verdict: Verdict::Denied,
        ..golden()
    };
    let record = Record::after(&Head::START, nobody.clone());
    assert_eq!(
        canonical::read(&canonical::write(1, &nobody)).unwrap().1,
        nobody
    );
    assert_eq!(record_from_proto(record_to_proto(&record)).unwrap(), record);
    // Somebody who is slipped in without a kind is not passed over.
    let line = lines::line(&record).replace("\"subject\":\"\"", "\"subject\":\"bob\"");
    let file = file(&[line], &record.head());
    assert!(matches!(
        check(&file, None),
        Err(Break::Line { line: 2, .. })
    ));
}

fn chain(count: u64) -> Vec<Record> {
    let mut head = Head::START;
    let mut records = Vec::new();
    for number in 0..count {
        let entry = Entry {
            id: format!("{number:032x}"),
            who: golden().who.filter(|_| !number.is_multiple_of(3)),
            verdict: [Verdict::Allowed, Verdict::Denied, Verdict::Lost][number as usize % 3],
            ..golden()
        };
        let record = Record::after(&head, entry);
        head = record.head();
        records.push(record);
    }
    records
}

fn file(lines: &[String], head: &Head) -> Vec<u8> {
    let mut all = vec![lines::first(&acme(), &Head::START)];
    all.extend_from_slice(lines);
    all.push(lines::last(head));
    all.iter()
        .map(|line| format!("{line}\n"))
        .collect::<String>()
        .into_bytes()
}

fn exported(records: &[Record]) -> Vec<u8> {
    let lines: Vec<String> = records.iter().map(lines::line).collect();
    file(&lines, &records.last().map_or(Head::START, Record::head))
}

fn check(file: &[u8], checkpoint: Option<Head>) -> Result<lines::Checked, Break> {
    lines::check(Cursor::new(file), checkpoint)
}

fn walk(records: &[Record], head: &Head, checkpoint: Option<Head>) -> Result<u64, Break> {
    let mut checker = Checker::new(acme(), Head::START, checkpoint)?;
    records.iter().try_for_each(|record| checker.take(record))?;
    checker.end(head)
}

#[test]
fn a_whole_file_is_intact_and_an_empty_log_is_too() {
    let records = chain(7);
    let checked = check(&exported(&records), Some(records[3].head())).unwrap();
    assert_eq!((checked.records, checked.head), (7, records[6].head()));
    assert_eq!(check(&exported(&[]), None).unwrap().records, 0);
    assert_eq!(
        records[6].head().to_string().parse::<Head>(),
        Ok(records[6].head())
    );
}

#[test]
fn what_the_chain_alone_does_not_show_a_checkpoint_does() {
    let records = chain(7);
    let checkpoint = records[6].head();
    // The end is cut off together with the head: as it was some records ago.
    let cut = &records[..4];
    assert_eq!(walk(cut, &cut[3].head(), None), Ok(4));
    let short = walk(cut, &cut[3].head(), Some(checkpoint));
    assert!(matches!(
        short,
        Err(Break::Short {
            checkpoint: 7,
            found: 4
        })
    ));
    // All of it is made anew, as somebody would have liked it.
    let mut head = Head::START;
    let mut anew = Vec::new();
    for record in &records {
        let entry = Entry {
            code: "NOT_FOUND".into(),
            ..record.entry.clone()
        };
        let record = Record::after(&head, entry);
        head = record.head();
        anew.push(record);
    }
    assert_eq!(walk(&anew, &head, None), Ok(7));
    assert_eq!(
        walk(&anew, &head, Some(checkpoint)),
        Err(Break::Checkpoint(7))
    );
    let early = walk(&anew, &head, Some(records[2].head()));
    assert_eq!(early, Err(Break::Checkpoint(3)));
}

#[test]
fn a_chain_that_begins_later_is_checked_from_there() {
    let records = chain(9);
    let start = records[3].head();
    let mut checker = Checker::new(acme(), start, Some(records[5].head())).unwrap();
    for record in &records[4..] {
        checker.take(record).unwrap();
    }
    assert_eq!(checker.end(&records[8].head()), Ok(5));
    let gone = Checker::new(acme(), start, Some(records[1].head())).unwrap_err();
    assert!(matches!(
        gone,
        Break::Pruned {
            checkpoint: 2,
            start: 4
        }
    ));
    let other = Head {
        hash: Digest::ZERO,
        ..start
    };
    let other = Checker::new(acme(), start, Some(other)).unwrap_err();
    assert_eq!(other, Break::Checkpoint(4));
}

#[test]
fn a_delivered_record_says_what_was_recorded() {
    let sent = entry_to_proto(&golden());
    assert_eq!(entry_from_proto(sent.clone()).unwrap(), golden());
    let field = |record| entry_from_proto(record).unwrap_err().field;
    let wrong = |change: fn(&mut commonplace_proto::policy::AuditRecord)| {
        let mut record = sent.clone();
        change(&mut record);
        field(record)
    };
    assert_eq!(wrong(|record| record.id = "x".into()), "id");
    assert_eq!(wrong(|record| record.time = None), "time");
    assert_eq!(wrong(|record| record.decision = 0), "decision");
    assert_eq!(wrong(|record| record.kind = 0), "kind");
    assert_eq!(wrong(|record| record.reason = "x".repeat(2_000)), "reason");
}

/// A change that somebody makes to records.
#[derive(Debug, Clone)]
enum Change {
    Remove(usize),
    Repeat(usize),
    Swap(usize, usize),
    Insert(usize),
}

fn change() -> impl Strategy<Value = Change> {
    let place = 0..12_usize;
    prop_oneof![
        place.clone().prop_map(Change::Remove),
        place.clone().prop_map(Change::Repeat),
        (place.clone(), place.clone()).prop_map(|(a, b)| Change::Swap(a, b)),
        place.prop_map(Change::Insert),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_byte_of_a_file_that_is_another_is_noticed(place in 0..100_000_usize, bit in 0..8_u32) {
        let mut file = exported(&chain(5));
        let place = place % file.len();
        file[place] ^= 1 << bit;
        prop_assert!(check(&file, None).is_err(), "byte {place}, bit {bit}");
    }

    #[test]
    fn any_byte_that_is_kept_is_read_as_it_was_or_refused(place in 0..100_000_usize, byte in any::<u8>()) {
        let whole = canonical::write(1, &golden());
        let mut bytes = whole.clone();
        let place = place % bytes.len();
        bytes[place] = byte;
        if let Ok((sequence, entry)) = canonical::read(&bytes) {
            prop_assert_eq!(canonical::write(sequence, &entry), bytes.clone());
            let head = Head { sequence: sequence.wrapping_sub(1), ..Head::START };
            let same = sequence > 0 && sequence < u64::MAX
                && Record::after(&head, entry).hash.to_string() == GOLDEN_HASH;
            prop_assert_eq!(same, bytes == whole);
        }
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_noticed(length in 0..100_000_usize) {
        let file = exported(&chain(5));
        prop_assert!(check(&file[..length % file.len()], None).is_err());
    }

    #[test]
    fn records_taken_away_put_in_or_moved_are_noticed(change in change(), told in any::<bool>()) {
        let whole = chain(12);
        let mut records = whole.clone();
        match change {
            Change::Remove(place) => drop(records.remove(place)),
            Change::Repeat(place) => records.insert(place, whole[place].clone()),
            Change::Swap(a, b) => records.swap(a, b),
            Change::Insert(place) => {
                let before = place.checked_sub(1).map_or(Head::START, |place| whole[place].head());
                let entry = Entry { id: "f".repeat(32), ..golden() };
                records.insert(place, Record::after(&before, entry));
            }
        }
        prop_assume!(records != whole);
        // The head is as it was, or as whoever made the change would write it.
        let head = if told { records.last().unwrap().head() } else { whole[11].head() };
        let cut = records == whole[..records.len().min(12)];
        let walked = walk(&records, &head, None);
        prop_assert!(walked.is_err() || (cut && told), "{walked:?}");
        prop_assert!(walk(&records, &head, Some(whole[11].head())).is_err());
    }

    #[test]
    fn what_is_recorded_is_written_and_read_alike(
        texts in proptest::collection::vec("[ -~äß\"\\\\]{0,20}", 6),
        count in any::<u64>(),
        micros in 0..253_402_207_199_999_999_i64,
    ) {
        let time = Timestamp::from_micros(micros).unwrap();
        let entry = Entry {
            request_id: texts[0].clone(),
            reason: texts[1].clone(),
            service: texts[2].clone(),
            peer: texts[3].clone(),
            policies: texts[4..].to_vec(),
            count,
            time,
            ..golden()
        };
        let record = Record::after(&Head::START, entry.clone());
        prop_assert_eq!(canonical::read(&canonical::write(1, &entry)).unwrap(), (1, entry));
        prop_assert_eq!(record_from_proto(record_to_proto(&record)).unwrap(), record.clone());
        prop_assert_eq!(check(&exported(&[record]), None).unwrap().records, 1);
    }
}
