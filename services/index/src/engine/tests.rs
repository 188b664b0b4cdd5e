//! What an engine holds after restarts, rebuilds, crashes and damage.

use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::passages::{PassageKey, ReadError, read_all};
use crate::search::{Answer, Query, Tools, search};
use crate::testing::{Dice, History, WordVectors};
use crate::vectors::QueryVector;

const COMMITS: usize = 60;

fn open(folder: &Path) -> Result<Engine, EngineError> {
    Engine::open(folder, Some(&WordVectors), 2, usize::MAX)
}

fn history() -> History {
    History::random(&mut Dice(99), COMMITS)
}

/// Takes in what is missing, in batches of that size.
fn feed(engine: &Engine, history: &History, batch: usize) {
    let from = engine.snapshot().progress.commits as usize;
    history.frames[from..]
        .chunks(batch)
        .for_each(|frames| engine.apply(frames).unwrap());
}

fn embed(engine: &Engine, most: usize) -> usize {
    let (first, contents, texts) = engine.without_vector(most);
    let codes = texts.iter().map(|text| WordVectors.embed(text));
    let made: Vec<_> = contents.into_iter().zip(codes).collect();
    engine.add_vectors(first, &made);
    made.len()
}

fn embed_all(engine: &Engine) {
    while embed(engine, 11) > 0 {}
}

fn query(text: &str) -> Query {
    Query {
        text: text.into(),
        lexical_limit: 10,
        dense_limit: 10,
        ineligible_limit: 5,
        ..Query::default()
    }
}

fn ask(engine: &Engine, number: usize, query: &Query) -> Answer {
    let vector = QueryVector::new(WordVectors.embed(&query.text));
    let (snapshot, tools) = (engine.snapshot(), Tools::new(false));
    search(
        engine,
        &snapshot,
        number as u32,
        query,
        Some(vector),
        &tools,
    )
    .unwrap()
}

/// An answer at every commit.
fn answers(engine: &Engine) -> Vec<Answer> {
    let commits = engine.snapshot().progress.commits as usize;
    (0..commits)
        .map(|number| ask(engine, number, &query("retry timeout parser")))
        .collect()
}

#[test]
fn batches_restarts_and_rebuilds_leave_no_trace() {
    let history = history();
    let folders = [(); 4].map(|()| tempfile::tempdir().unwrap());
    let whole = open(folders[0].path()).unwrap();
    feed(&whole, &history, COMMITS);
    embed_all(&whole);
    let expected = answers(&whole);

    let one_by_one = open(folders[1].path()).unwrap();
    for frame in &history.frames {
        one_by_one.apply(std::slice::from_ref(frame)).unwrap();
        one_by_one.flush().unwrap();
        embed(&one_by_one, 3);
    }
    embed_all(&one_by_one);
    assert_eq!(
        (one_by_one.digest(), answers(&one_by_one)),
        (whole.digest(), expected.clone())
    );

    let path = folders[2].path();
    for (round, stop) in [13, 14, 30, COMMITS].into_iter().enumerate() {
        let engine = open(path).unwrap();
        let from = engine.snapshot().progress.commits as usize;
        engine.apply(&history.frames[from..stop]).unwrap();
        embed(&engine, 20);
        if round % 2 == 0 {
            engine.flush().unwrap();
        }
    }
    let engine = open(path).unwrap();
    assert_eq!(engine.snapshot().progress.commits, 30);
    assert_eq!(engine.cursor(), "cursor 29");
    feed(&engine, &history, 7);
    embed_all(&engine);
    assert_eq!(
        (engine.digest(), answers(&engine)),
        (whole.digest(), expected)
    );
}

#[test]
fn an_answer_is_repeated_from_the_vectors_it_was_made_with() {
    let history = history();
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path()).unwrap();
    feed(&engine, &history, 9);
    let mut first = Vec::new();
    loop {
        let answer = ask(&engine, COMMITS - 1, &query("lane commit"));
        first.push(answer);
        if embed(&engine, 9) == 0 {
            break;
        }
    }
    assert!(first.len() > 5);
    for answer in first {
        // Without any vectors there is nothing to repeat with: that is asked for by leaving them out.
        let Some(through) = answer.dense_through else {
            continue;
        };
        let again = Query {
            dense_through: Some(through),
            ..query("lane commit")
        };
        assert_eq!(ask(&engine, COMMITS - 1, &again), answer);
    }
}

#[test]
fn an_old_commit_is_searched_the_same_whatever_came_later() {
    let history = history();
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path()).unwrap();
    let mut at_once = Vec::new();
    for (number, frame) in history.frames.iter().enumerate() {
        engine.apply(std::slice::from_ref(frame)).unwrap();
        embed_all(&engine);
        at_once.push(ask(&engine, number, &query("flaky login cache")));
    }
    drop(engine);
    let later = open(tempfile::tempdir().unwrap().path()).unwrap();
    feed(&later, &history, COMMITS);
    embed_all(&later);
    for (number, answer) in at_once.into_iter().enumerate().rev() {
        assert_eq!(ask(&later, number, &query("flaky login cache")), answer);
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(&file, target).unwrap();
    }
}

#[test]
fn damage_is_noticed_or_does_no_harm() {
    let history = history();
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path()).unwrap();
    feed(&engine, &history, 20);
    embed_all(&engine);
    engine.flush().unwrap();
    let (digest, expected) = (engine.digest(), answers(&engine));
    drop(engine);
    let (mut refused, mut harmless) = (0, 0);
    for file in files(folder.path()) {
        let name = file.strip_prefix(folder.path()).unwrap().to_owned();
        // The texts are not read on opening; what is read from them is checked then.
        if name == Path::new("texts") || name.to_string_lossy().ends_with(".lock") {
            continue;
        }
        let whole = std::fs::read(&file).unwrap();
        for damage in 0..3 {
            let copied = tempfile::tempdir().unwrap();
            copy(folder.path(), copied.path());
            let target = copied.path().join(&name);
            let mut bytes = whole.clone();
            match damage {
                0 => bytes.truncate(whole.len() / 2),
                1 => bytes.clear(),
                _ => {
                    let middle = whole.len() / 2;
                    bytes
                        .get_mut(middle)
                        .into_iter()
                        .for_each(|byte| *byte ^= 0x55);
                }
            }
            std::fs::write(&target, bytes).unwrap();
            match open(copied.path()) {
                Err(EngineError::Damaged { .. }) => refused += 1,
                Err(error) => panic!("{} {damage}: {error}", name.display()),
                Ok(engine) => {
                    // Words may be damaged where a checksum is read only on use.
                    feed(&engine, &history, 20);
                    embed_all(&engine);
                    assert_eq!(engine.digest(), digest, "{} {damage}", name.display());
                    if !name.starts_with("lexical") {
                        assert_eq!(answers(&engine), expected, "{} {damage}", name.display());
                    }
                    harmless += 1;
                }
            }
        }
    }
    assert!(
        refused > 3 && harmless > 3,
        "{refused} refused, {harmless} harmless"
    );
}

#[test]
fn damaged_texts_are_noticed_when_they_are_read() {
    let history = history();
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path()).unwrap();
    feed(&engine, &history, 20);
    engine.flush().unwrap();
    let snapshot = engine.snapshot();
    let keys: Vec<PassageKey> = (0..snapshot.state.events.len())
        .filter(|&event| snapshot.state.facts.at(event).rows > 0)
        .map(|event| PassageKey {
            event: snapshot.state.events.at(event).id,
            passage: 0,
        })
        .collect();
    let passages = read_all(&snapshot, &keys).unwrap_or_else(|_| panic!("passages cannot be read"));
    assert!(
        passages
            .iter()
            .any(|passage| passage.text.contains("retry"))
    );
    let path = folder.path().join("texts");
    let whole = std::fs::read(&path).unwrap();
    // Heads (checksum, author, title) and texts alike: every byte of the first entries.
    for place in 0..whole.len().min(600) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x20;
        std::fs::write(&path, bytes).unwrap();
        match read_all(&snapshot, &keys) {
            Ok(read) => assert_eq!(read, passages, "byte {place}"),
            Err(error) => assert!(matches!(error, ReadError::Damaged), "byte {place}"),
        }
    }
    let zeroed = vec![0; std::fs::metadata(&path).unwrap().len() as usize];
    std::fs::write(&path, zeroed).unwrap();
    assert!(read_all(&engine.snapshot(), &keys).is_err());
    drop((snapshot, engine));
    std::fs::write(&path, b"short").unwrap();
    assert!(matches!(
        open(folder.path()),
        Err(EngineError::Damaged { .. })
    ));
}

#[test]
fn what_the_system_refuses_is_not_taken_for_damage() {
    let refusal = |number| {
        let refused = std::io::Error::from_raw_os_error(number);
        EngineError::from(LexicalError::Storage(refused.into()))
    };
    const TOO_MANY_OPEN_FILES: i32 = 24;
    const DISK_FULL: i32 = 28;
    const NO_SUCH_FILE: i32 = 2;
    for number in [TOO_MANY_OPEN_FILES, DISK_FULL] {
        assert!(matches!(refusal(number), EngineError::Storage(_)));
    }
    assert!(matches!(refusal(NO_SUCH_FILE), EngineError::Damaged { .. }));
}

#[test]
fn another_version_or_another_history_is_refused() {
    let history = history();
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path()).unwrap();
    engine.apply(&history.frames[..5]).unwrap();
    let skipped = engine.apply(&history.frames[6..7]);
    assert!(matches!(skipped, Err(EngineError::Diverged { number: 6 })));
    let mut other = history.frames[5].clone();
    other.previous = Some(other.hash);
    assert!(matches!(
        engine.apply(&[other]),
        Err(EngineError::Diverged { number: 5 })
    ));
    drop(engine);
    std::fs::write(folder.path().join("format"), "another").unwrap();
    assert!(matches!(
        open(folder.path()),
        Err(EngineError::Damaged { .. })
    ));
}

#[test]
fn vectors_outlive_a_rebuild_but_not_another_embedder() {
    struct Never;
    impl Embedder for Never {
        fn fingerprint(&self) -> &str {
            "never/1"
        }
        fn embed(&self, _: &str) -> crate::vectors::Codes {
            unreachable!("only its name is asked for")
        }
    }
    let history = history();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("project");
    let engine = open(&path).unwrap();
    feed(&engine, &history, 20);
    embed_all(&engine);
    engine.flush().unwrap();
    let expected = answers(&engine);
    drop(engine);
    wipe(&path).unwrap();
    let engine = open(&path).unwrap();
    assert_eq!(engine.snapshot().progress, Progress::default());
    for frames in history.frames.chunks(3) {
        engine.apply(frames).unwrap();
        while engine.adopt_vectors() {}
    }
    while engine.adopt_vectors() {}
    assert_eq!(embed(&engine, 100), 0, "nothing had to be made again");
    assert_eq!(answers(&engine), expected);
    engine.flush().unwrap();
    drop(engine);
    let engine = Engine::open(&path, Some(&Never), 1, usize::MAX).unwrap();
    assert_eq!(engine.snapshot().vectors.len(), 0);
    assert!(!engine.adopt_vectors());
}

#[test]
fn readers_keep_their_state_while_the_writer_goes_on() {
    let history = history();
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path()).unwrap();
    engine.apply(&history.frames[..20]).unwrap();
    let before: Arc<Snapshot> = engine.snapshot();
    let rows = before.state.rows.len();
    feed(&engine, &history, 5);
    engine.flush().unwrap();
    assert_eq!(
        (before.state.rows.len(), before.progress.commits),
        (rows, 20)
    );
    assert_eq!(before.words.rows() as usize, rows);
    let late = history.frames[COMMITS - 1].hash;
    assert_eq!(before.state.commit_number(&late), None);
    assert!(engine.holds(&late));
}
