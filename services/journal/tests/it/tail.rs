//! Following a project: order, resuming, waking, heartbeats, and each way a cursor can be wrong.

use std::time::Duration;

use commonplace_journal::{Frame, JournalError, Options, TailItem, TailStream};
use commonplace_testkit::{Backend, Site, each_backend};
use commonplace_types::ProjectName;
use futures::StreamExt;

use crate::common::*;

each_backend!(
    whole_commits_come_in_order,
    resuming_is_exclusive_at_every_point_and_after_a_restart,
    an_append_wakes_a_waiting_tail,
    a_slow_reader_misses_nothing,
    readers_that_do_not_come_take_no_room_from_others,
    wrong_cursors_are_told_apart,
    a_restored_journal_knows_cursors_of_the_lost_history,
    shutdown_ends_a_tail,
);

/// Takes messages up to the commit with that number; gives the frames and the last cursor.
async fn take_to(tail: &mut TailStream, number: u64) -> (Vec<Frame>, String) {
    let mut frames = Vec::new();
    loop {
        let tailed = tail.next().await.unwrap().unwrap();
        if let TailItem::Frame(frame) = tailed.item {
            let at = frame.commit.number;
            frames.push(frame);
            if at == number {
                return (frames, tailed.cursor);
            }
        }
    }
}

async fn tail(fixture: &Fixture, cursor: &str) -> Result<TailStream, JournalError> {
    fixture.journal.tail(&tenant(), &project(), cursor).await
}

async fn whole_commits_come_in_order(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    fixture
        .append("main", vec![about("r", "a"), draft("b")])
        .await;
    fixture.branch("side", "main").await;
    fixture.append("side", vec![update("r", "c")]).await;
    fixture.append("main", vec![draft("d"), draft("b")]).await;
    let (frames, _) = take_to(&mut tail(&fixture, "").await.unwrap(), 3).await;
    let numbers: Vec<u64> = frames.iter().map(|frame| frame.commit.number).collect();
    assert_eq!(numbers, [0, 1, 2, 3]);
    assert_eq!(frames[0].previous, None);
    for pair in frames.windows(2) {
        assert_eq!(pair[1].previous, Some(pair[0].commit.hash));
    }
    let titles = |frame: &Frame| -> Vec<String> {
        frame
            .events
            .iter()
            .map(|event| event.draft.title.clone())
            .collect()
    };
    assert_eq!(titles(&frames[1]), ["a", "b"]);
    assert_eq!(titles(&frames[2]), ["c"]);
    assert_eq!(titles(&frames[3]), ["d"]);
    assert_eq!(
        frames[2].events[0].draft.supersedes,
        [frames[1].events[0].id]
    );
    let visible = &frames[2].visible;
    assert!(visible.sees(1, 2) && !visible.sees(1, 3) && visible.sees(2, 1));
}

async fn resuming_is_exclusive_at_every_point_and_after_a_restart(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    for number in 0..6 {
        fixture
            .append("main", vec![draft(&number.to_string())])
            .await;
    }
    let mut cursors = vec![String::new()];
    let mut all = tail(&fixture, "").await.unwrap();
    for number in 0..=6 {
        cursors.push(take_to(&mut all, number).await.1);
    }
    drop(all);
    let fixture = fixture.restarted().await;
    for (next, cursor) in cursors.iter().enumerate().take(7) {
        let (frames, _) = take_to(&mut tail(&fixture, cursor).await.unwrap(), 6).await;
        assert_eq!(frames[0].commit.number, next as u64);
        assert_eq!(frames.len(), 7 - next);
    }
}

async fn an_append_wakes_a_waiting_tail(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    fixture.append("main", vec![draft("a")]).await;
    let mut follow = tail(&fixture, "").await.unwrap();
    let (_, resume) = take_to(&mut follow, 1).await;
    let beat = follow.next().await.unwrap().unwrap();
    let head = fixture
        .journal
        .resolve(&tenant(), &project(), &on("main"))
        .await
        .unwrap();
    assert!(matches!(beat.item, TailItem::Heartbeat(1, hash) if hash == head.commit.hash));
    assert_eq!(
        beat.cursor, resume,
        "a heartbeat resumes where the last commit did"
    );
    let waiting = tokio::spawn(async move { take_to(&mut follow, 2).await });
    tokio::time::sleep(Duration::from_millis(5)).await;
    fixture.append("main", vec![draft("b")]).await;
    let (frames, _) = tokio::time::timeout(Duration::from_secs(5), waiting)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(frames.len(), 1);
}

async fn a_slow_reader_misses_nothing(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    fixture.append("main", vec![draft("first")]).await;
    let mut follow = tail(&fixture, "").await.unwrap();
    take_to(&mut follow, 1).await;
    // More commits, and more bytes, than one page holds.
    for number in 0..600 {
        fixture
            .append("main", vec![draft(&number.to_string())])
            .await;
    }
    let mut large = draft("large");
    large.text = "x".repeat(900_000);
    let large = (0..4).map(|number| {
        let mut event = large.clone();
        event.title = format!("large {number}");
        event
    });
    fixture.append("main", large.collect()).await;
    let (frames, _) = take_to(&mut follow, 602).await;
    assert_eq!(frames.len(), 601);
    assert_eq!(frames.last().unwrap().events.len(), 4);
}

async fn readers_that_do_not_come_take_no_room_from_others(backend: Backend) {
    let options = Options {
        heartbeat_ms: 50,
        tail_mebibytes: 32,
        ..Options::default()
    };
    let fixture = Fixture::with(Site::new(backend), options).await;
    for number in 0..12 {
        let large = (0..3).map(|part| {
            let mut event = draft(&format!("{number} {part}"));
            event.text = "x".repeat(1 << 20);
            event
        });
        fixture.append("main", large.collect()).await;
    }
    // Each holds a commit of 3 MiB and reads the next: more than there is room for, if nobody let go.
    let mut slow = Vec::new();
    for _ in 0..8 {
        let mut tail = tail(&fixture, "").await.unwrap();
        slow.push((take_to(&mut tail, 1).await, tail));
    }
    let mut quick = tail(&fixture, "").await.unwrap();
    let all = tokio::time::timeout(Duration::from_secs(30), take_to(&mut quick, 12)).await;
    let (all, _) = all.expect("a reader that comes gets on");
    assert_eq!(all.len(), 13);
    for ((first, _), mut tail) in slow {
        let (rest, _) = take_to(&mut tail, 12).await;
        let frames = first.iter().chain(&rest);
        let hashes: Vec<_> = frames.map(|frame| frame.commit.hash).collect();
        let expected: Vec<_> = all.iter().map(|frame| frame.commit.hash).collect();
        assert_eq!(hashes, expected);
    }
}

async fn wrong_cursors_are_told_apart(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    fixture.append("main", vec![draft("a")]).await;
    let (_, cursor) = take_to(&mut tail(&fixture, "").await.unwrap(), 1).await;
    for wrong in ["x", "00", &cursor[2..]] {
        let error = tail(&fixture, wrong).await.err().unwrap();
        assert!(
            matches!(&error, JournalError::Invalid(i) if i.field == "cursor"),
            "{error}"
        );
    }
    let mut changed = hex::decode(&cursor).unwrap();
    changed[20] ^= 1;
    let error = tail(&fixture, &hex::encode(changed)).await.err().unwrap();
    assert!(matches!(error, JournalError::CursorForked), "{error}");

    let mut request = append_to("main", vec![draft("a")]);
    request.project = ProjectName::new("other").unwrap();
    fixture.journal.append(request).await.unwrap();
    let other = ProjectName::new("other").unwrap();
    let error = fixture
        .journal
        .tail(&tenant(), &other, &cursor)
        .await
        .err()
        .unwrap();
    assert!(
        matches!(error, JournalError::CursorForked),
        "another project's cursor: {error}"
    );
}

/// Copies a closed journal, goes on in both copies, and offers one's cursors to the other.
async fn a_restored_journal_knows_cursors_of_the_lost_history(backend: Backend) {
    let fixture = Fixture::at(Site::alone(backend).await).await;
    fixture.append("main", vec![draft("a")]).await;
    fixture.journal.shutdown().await.unwrap();
    let backup = fixture.site.copy("journal", "journal.sqlite").await;

    let fixture = fixture.restarted().await;
    fixture.append("main", vec![draft("lost 1")]).await;
    fixture.append("main", vec![draft("lost 2")]).await;
    let mut follow = tail(&fixture, "").await.unwrap();
    let (_, two) = take_to(&mut follow, 2).await;
    let (_, three) = take_to(&mut follow, 3).await;

    let journal = open(&backup, fixture.clock.clone()).await.unwrap();
    journal
        .append(append_to("main", vec![draft("other")]))
        .await
        .unwrap();
    let error = journal
        .tail(&tenant(), &project(), &three)
        .await
        .err()
        .unwrap();
    assert!(
        matches!(error, JournalError::CursorAhead { number: 3, head: 2 }),
        "{error}"
    );
    let error = journal
        .tail(&tenant(), &project(), &two)
        .await
        .err()
        .unwrap();
    assert!(matches!(error, JournalError::CursorForked), "{error}");
}

async fn shutdown_ends_a_tail(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    fixture.append("main", vec![draft("a")]).await;
    let mut follow = tail(&fixture, "").await.unwrap();
    take_to(&mut follow, 1).await;
    fixture.journal.shutdown().await.unwrap();
    loop {
        match follow.next().await.unwrap() {
            Ok(_) => {}
            Err(error) => {
                assert!(matches!(error, JournalError::Stopping), "{error}");
                break;
            }
        }
    }
    assert!(follow.next().await.is_none());
    let error = fixture
        .try_append("main", vec![draft("b")])
        .await
        .unwrap_err();
    assert!(matches!(error, JournalError::Stopping), "{error}");
}
