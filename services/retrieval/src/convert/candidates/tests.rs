use super::*;

fn row(number: u8) -> proto::Candidate {
    let event = EventId::from_bytes([number; 16]);
    let eligibility = match number % 3 {
        0 => proto::Eligibility::Eligible,
        1 => proto::Eligibility::Superseded,
        _ => proto::Eligibility::Filtered,
    };
    proto::Candidate {
        key: Some(proto::PassageKey {
            event_id: event.to_string(),
            passage: number.into(),
        }),
        record_id: format!("record:{number}"),
        artifact_type: ["bug", "diff"][usize::from(number % 2)].into(),
        event_time: Some(prost_types::Timestamp {
            seconds: 1_790_000_000 + i64::from(number),
            nanos: 123_456_000,
        }),
        importance: f64::from(number) / 7.0,
        pinned: number.is_multiple_of(2),
        tags: vec!["ci".into()],
        lexical_score: f64::from(number) * 1.1,
        lexical_rank: number.into(),
        dense_score: (!number.is_multiple_of(4)).then(|| f64::from(number) * -0.1),
        dense_rank: u32::from(number) * 3,
        tokens: 40 + u32::from(number),
        content: hex::encode([number + 100; 16]),
        eligibility: eligibility.into(),
        always: number.is_multiple_of(5),
    }
}

fn columns(count: u8) -> proto::CandidateColumns {
    let rows: Vec<_> = (0..count).map(row).collect();
    let one = |number: u8| vec![number; 16];
    proto::CandidateColumns {
        event_ids: (0..count).flat_map(one).collect::<Vec<u8>>().into(),
        passages: (0..count).map(u32::from).collect(),
        artifact_types: vec!["bug".into(), "diff".into()],
        types: (0..count).map(|number| u32::from(number % 2)).collect(),
        event_times: (0..count)
            .map(|number| 1_790_000_000_123_456 + i64::from(number) * 1_000_000)
            .collect(),
        importances: rows
            .iter()
            .map(|row| (row.importance * 1e6).round() as u32)
            .collect(),
        pinned: rows.iter().map(|row| row.pinned).collect(),
        lexical_scores: rows.iter().map(|row| row.lexical_score).collect(),
        lexical_ranks: rows.iter().map(|row| row.lexical_rank).collect(),
        dense_scores: rows
            .iter()
            .map(|row| row.dense_score.unwrap_or(f64::NAN))
            .collect(),
        dense_ranks: rows.iter().map(|row| row.dense_rank).collect(),
        tokens: rows.iter().map(|row| row.tokens).collect(),
        contents: (100..100 + count).flat_map(one).collect::<Vec<u8>>().into(),
        eligibilities: rows.iter().map(|row| row.eligibility).collect(),
        always: rows.iter().map(|row| row.always).collect(),
    }
}

#[test]
fn rows_and_columns_tell_the_same_but_for_names() {
    let by_rows = candidates((0..8).map(row).collect(), None).unwrap();
    let unnamed = by_rows.into_iter().map(|candidate| Candidate {
        record: String::new(),
        tags: Vec::new(),
        ..candidate
    });
    let by_columns = candidates(Vec::new(), Some(columns(8))).unwrap();
    assert_eq!(by_columns, unnamed.collect::<Vec<_>>());
}

#[test]
fn what_a_column_lacks_or_may_not_say_is_told_with_its_name() {
    type Change = fn(&mut proto::CandidateColumns);
    let cases: [(&str, Change); 17] = [
        ("event_ids", |c| c.event_ids = vec![0; 17].into()),
        ("passages", |c| c.passages.push(1)),
        ("types", |c| c.types.clear()),
        ("types", |c| c.types[1] = 2),
        ("event_times", |c| c.event_times.truncate(1)),
        ("event_times", |c| c.event_times[0] = -1),
        ("importances", |c| c.importances.clear()),
        ("pinned", |c| c.pinned.push(true)),
        ("lexical_scores", |c| c.lexical_scores.clear()),
        ("lexical_ranks", |c| c.lexical_ranks.clear()),
        ("dense_scores", |c| c.dense_scores.clear()),
        ("dense_ranks", |c| c.dense_ranks.clear()),
        ("tokens", |c| c.tokens.clear()),
        ("contents", |c| c.contents = vec![0; 33].into()),
        ("contents", |c| c.contents = vec![0; 16].into()),
        ("eligibilities", |c| c.eligibilities.clear()),
        ("always", |c| c.always.clear()),
    ];
    for (column, change) in cases {
        let mut raw = columns(2);
        change(&mut raw);
        let error = from_columns(raw).unwrap_err();
        assert_eq!(error.field, format!("columns.{column}"), "{error}");
    }
    let mut none = columns(0);
    assert!(from_columns(none.clone()).unwrap().is_empty());
    none.event_ids = vec![0; 16].into();
    assert!(from_columns(none).is_err());
}
