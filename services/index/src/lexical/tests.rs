//! Layout, order of work and restarts must not show in a single bit of a score.

use super::*;
use crate::bitmap::Bitmap;
use proptest::prelude::*;
use std::collections::BTreeMap;

type Document = Vec<String>;

/// BM25 by its definition, over plain documents.
fn naive(
    documents: &[Document],
    visible: &Bitmap,
    live: &Bitmap,
    query: &[String],
) -> BTreeMap<u32, f64> {
    let length = |row: u32| documents[row as usize].len() as f64;
    let occurrences = |row: u32, term: &str| {
        documents[row as usize]
            .iter()
            .filter(|own| *own == term)
            .count()
    };
    let rows = live.iter().count() as f64;
    let average = live.iter().map(length).sum::<f64>() / rows.max(1.0);
    let mut terms = query.to_vec();
    terms.sort();
    terms.dedup();
    let mut scores = BTreeMap::new();
    for term in &terms {
        let weight = query.iter().filter(|own| *own == term).count() as f64;
        let frequency = live
            .iter()
            .filter(|row| occurrences(*row, term) > 0)
            .count() as f64;
        let idf = libm::log(1.0 + (rows - frequency + 0.5) / (frequency + 0.5));
        let slope = K1 * B / (average + LENGTH_OFFSET);
        let base = K1 * (1.0 - B) + slope * LENGTH_OFFSET;
        for row in visible.iter() {
            let own = occurrences(row, term) as f64;
            if own > 0.0 {
                *scores.entry(row).or_insert(0.0) +=
                    weight * idf * (own / (own + (base + slope * length(row))));
            }
        }
    }
    scores
}

fn scored(
    snapshot: &Snapshot,
    documents: &[Document],
    visible: &Bitmap,
    live: &Bitmap,
    query: &[String],
    scratch: &mut Scratch,
) -> BTreeMap<u32, f64> {
    let lengths: Vec<u32> = documents.iter().map(|terms| terms.len() as u32).collect();
    let statistics = Statistics::of(live, &lengths);
    let rows = Rows {
        visible,
        live,
        lengths: &lengths,
        statistics,
    };
    let scores = snapshot.score(query, rows, scratch).unwrap();
    for term in scores.terms() {
        let holds = |row: &u32| documents[*row as usize].contains(&term.term);
        assert_eq!(
            term.document_frequency,
            live.iter().filter(holds).count() as u64
        );
    }
    scores.iter().collect()
}

fn assert_same_bits(got: &BTreeMap<u32, f64>, expected: &BTreeMap<u32, f64>) {
    let bits = |scores: &BTreeMap<u32, f64>| -> Vec<(u32, u64)> {
        scores
            .iter()
            .map(|(row, score)| (*row, score.to_bits()))
            .collect()
    };
    assert_eq!(bits(got), bits(expected));
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn full(documents: &[Document]) -> Bitmap {
    Bitmap::full(documents.len() as u32)
}

/// What happens to the index between two rows.
#[derive(Clone, Debug)]
enum Step {
    Add(Document),
    Snapshot,
    Commit,
    Reopen,
    Rest,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => proptest::collection::vec("[a-h]", 0..9).prop_map(Step::Add),
        3 => Just(Step::Snapshot),
        2 => Just(Step::Commit),
        1 => Just(Step::Reopen),
        1 => Just(Step::Rest),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn scores_are_those_of_the_definition_whatever_happened_before(
        steps in proptest::collection::vec(step(), 1..60),
        query in proptest::collection::vec("[a-j]", 0..6),
        hidden in any::<u64>(),
        dead in any::<u64>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (mut lexical, cursor) = Lexical::open(folder.path()).unwrap();
        prop_assert_eq!(cursor, None);
        let mut documents: Vec<Document> = Vec::new();
        let mut committed = 0;
        let mut scratch = Scratch::default();
        for step in steps {
            match step {
                Step::Add(terms) => {
                    lexical.add(documents.len() as u32, &terms).unwrap();
                    documents.push(terms);
                }
                Step::Snapshot => {
                    prop_assert_eq!(lexical.snapshot().rows() as usize, documents.len());
                }
                Step::Commit => {
                    committed = documents.len();
                    let cursor = lexical.commit(&format!("at {committed}")).unwrap();
                    prop_assert_eq!(cursor.rows as usize, committed);
                    prop_assert_eq!(lexical.pending_rows(), 0);
                }
                Step::Reopen => {
                    drop(lexical);
                    let (reopened, cursor) = Lexical::open(folder.path()).unwrap();
                    lexical = reopened;
                    prop_assert_eq!(cursor.map_or(0, |cursor| cursor.rows) as usize, committed);
                    documents.truncate(committed);
                }
                Step::Rest => lexical.rest().unwrap(),
            }
        }
        let visible: Bitmap = full(&documents).iter().filter(|row| hidden >> (row % 61) & 1 == 0).collect();
        let live: Bitmap = visible.iter().filter(|row| dead >> (row % 59) & 1 == 0).collect();
        let snapshot = lexical.snapshot();
        for _ in 0..2 {
            let got = scored(&snapshot, &documents, &visible, &live, &query, &mut scratch);
            assert_same_bits(&got, &naive(&documents, &visible, &live, &query));
        }
    }

    #[test]
    fn the_best_are_those_of_a_full_sort(
        scores in proptest::collection::vec(0u8..6, 0..300),
        limit in 0usize..40,
        ineligible in any::<u64>(),
    ) {
        // Terms repeated in documents of one length give few distinct scores, so ties abound.
        let documents: Vec<Document> = scores
            .iter()
            .map(|score| (0..5).map(|at| if at < *score { "hit" } else { "miss" }.to_owned()).collect())
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let (lexical, _) = Lexical::open(folder.path()).unwrap();
        for (row, terms) in documents.iter().enumerate() {
            lexical.add(row as u32, terms).unwrap();
        }
        let lengths = vec![5; documents.len()];
        let all = full(&documents);
        let eligible: Bitmap = all.iter().filter(|row| ineligible >> (row % 64) & 1 == 0).collect();
        let statistics = Statistics::of(&all, &lengths);
        let rows = Rows { visible: &all, live: &all, lengths: &lengths, statistics };
        let mut scratch = Scratch::default();
        let snapshot = lexical.snapshot();
        let scores = snapshot.score(&words("hit"), rows, &mut scratch).unwrap();
        let key = |row: u32| row.wrapping_mul(2_654_435_761) % 101;
        let mut expected: Vec<(u32, f64)> = scores.iter().filter(|(row, _)| eligible.get(*row)).collect();
        expected.sort_by(|a, b| b.1.total_cmp(&a.1).then(key(a.0).cmp(&key(b.0))).then(a.0.cmp(&b.0)));
        expected.truncate(limit);
        prop_assert_eq!(scores.top_k(limit, &eligible, key), expected);
    }
}

#[test]
fn many_segments_and_their_merge_score_like_one() {
    let documents: Vec<Document> = (0..3_000u32)
        .map(|row| {
            let word = |at: u32| {
                format!(
                    "w{}",
                    row.wrapping_mul(2_654_435_761).rotate_left(at * 5) % (7 + at * 13)
                )
            };
            (0..row % 19).map(word).collect()
        })
        .collect();
    let query = words("w1 w2 w3 w5 w40 w2 absent");
    let all = full(&documents);
    let expected = naive(&documents, &all, &all, &query);
    let mut scratch = Scratch::default();
    for per_commit in [3_000, 151] {
        let folder = tempfile::tempdir().unwrap();
        let (lexical, _) = Lexical::open(folder.path()).unwrap();
        for (row, terms) in documents.iter().enumerate() {
            lexical.add(row as u32, terms).unwrap();
            if (row + 1) % per_commit == 0 {
                lexical.commit("").unwrap();
                let so_far = &documents[..=row];
                let visible = full(so_far);
                let got = scored(
                    &lexical.snapshot(),
                    so_far,
                    &visible,
                    &visible,
                    &query,
                    &mut scratch,
                );
                assert_eq!(got.len(), naive(so_far, &visible, &visible, &query).len());
            }
        }
        // Let merges end, and see what they made.
        lexical.rest().unwrap();
        lexical.commit("").unwrap();
        let snapshot = lexical.snapshot();
        assert!(
            snapshot.segments() <= 12,
            "{} segments",
            snapshot.segments()
        );
        assert_same_bits(
            &scored(&snapshot, &documents, &all, &all, &query, &mut scratch),
            &expected,
        );
    }
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (lexical, _) = Lexical::open(folder.path()).unwrap();
    let documents = vec![words("alpha beta"), words("beta")];
    lexical.add(0, &documents[0]).unwrap();
    let before = lexical.snapshot();
    assert!(Arc::ptr_eq(&before, &lexical.snapshot()), "nothing changed");
    lexical.add(1, &documents[1]).unwrap();
    lexical.commit("").unwrap();
    let (one, both) = (full(&documents[..1]), full(&documents));
    let mut scratch = Scratch::default();
    let got = scored(
        &before,
        &documents[..1],
        &one,
        &one,
        &words("beta"),
        &mut scratch,
    );
    assert_same_bits(&got, &naive(&documents[..1], &one, &one, &words("beta")));
    let got = scored(
        &lexical.snapshot(),
        &documents,
        &both,
        &both,
        &words("beta"),
        &mut scratch,
    );
    assert_eq!(got.len(), 2);
}

#[test]
fn rows_come_in_order_and_terms_are_sound() {
    let folder = tempfile::tempdir().unwrap();
    let (lexical, _) = Lexical::open(folder.path()).unwrap();
    assert!(matches!(
        lexical.add(1, &[]),
        Err(LexicalError::RowOrder {
            expected: 0,
            got: 1
        })
    ));
    for bad in ["", "a\u{1f}b", &"x".repeat(MAX_TERM_BYTES + 1)] {
        let error = lexical.add(0, &["good".into(), bad.into()]).unwrap_err();
        assert!(error.to_string().starts_with("terms[1]: must "), "{error}");
    }
    assert_eq!(lexical.next_row(), 0);
}

#[test]
fn a_damaged_or_foreign_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (lexical, _) = Lexical::open(folder.path()).unwrap();
    lexical.add(0, &words("alpha")).unwrap();
    lexical.commit("payload\nof two lines").unwrap();
    drop(lexical);
    let meta = folder.path().join("meta.json");
    let whole = std::fs::read_to_string(&meta).unwrap();
    let cursor = Lexical::open(folder.path()).unwrap().1;
    assert_eq!(
        cursor,
        Some(Cursor {
            rows: 1,
            payload: "payload\nof two lines".into()
        })
    );

    std::fs::write(&meta, whole.replace(crate::analyzer::ANALYZER, "another/7")).unwrap();
    assert!(
        matches!(Lexical::open(folder.path()), Err(LexicalError::Mismatch { found, .. }) if found.ends_with("another/7"))
    );
    std::fs::write(&meta, whole.replace("\\n1\\n", "\\n2\\n")).unwrap();
    assert!(matches!(
        Lexical::open(folder.path()),
        Err(LexicalError::Corrupt { .. })
    ));
    std::fs::write(&meta, &whole[..whole.len() / 2]).unwrap();
    assert!(Lexical::open(folder.path()).is_err());
    std::fs::write(&meta, &whole).unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "fast")
        {
            std::fs::remove_file(path).unwrap();
        }
    }
    assert!(Lexical::open(folder.path()).is_err());
}

#[test]
fn adding_and_searching_go_on_during_a_commit() {
    let folder = tempfile::tempdir().unwrap();
    let (lexical, _) = Lexical::open(folder.path()).unwrap();
    let lexical = Arc::new(lexical);
    let documents: Vec<Document> = (0..2_000)
        .map(|row| words(&format!("all r{row} m{}", row % 7)))
        .collect();
    let committer = Arc::clone(&lexical);
    let thread = std::thread::spawn(move || {
        while committer.next_row() < 2_000 {
            committer.commit("").unwrap();
        }
    });
    let mut scratch = Scratch::default();
    for (row, terms) in documents.iter().enumerate() {
        lexical.add(row as u32, terms).unwrap();
        if row % 50 == 0 {
            let so_far = &documents[..=row];
            let visible = full(so_far);
            let query = words(&format!("all r{row}"));
            let got = scored(
                &lexical.snapshot(),
                so_far,
                &visible,
                &visible,
                &query,
                &mut scratch,
            );
            assert_same_bits(&got, &naive(so_far, &visible, &visible, &query));
        }
    }
    thread.join().unwrap();
}
