//! Appends that meet: groups, refusals, shutdown, cancelled calls; and folders that may not be opened.

use std::sync::Arc;
use std::time::Duration;

use commonplace_journal::{JournalError, Options, start};
use commonplace_storage::StorageError;
use commonplace_testkit::{Backend, Site, each_backend};
use commonplace_types::SystemClock;
use futures::future::join_all;

use crate::common::*;

each_backend!(
    heads_within_a_group_follow_each_other,
    new_projects_in_one_group_stay_apart,
    a_full_queue_refuses_at_once,
);
each_backend!(threads = 4:
    one_refused_append_leaves_its_group_alone,
    of_many_that_insist_on_one_head_one_wins,
    the_same_request_at_once_is_done_once,
    shutdown_answers_what_was_taken_and_keeps_it,
    cancelled_appends_harm_nobody,
);

async fn one_refused_append_leaves_its_group_alone(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    let first = fixture.append("main", vec![draft("first")]).await;
    let appends = (0..200).map(|number| {
        let mut request = append_to("main", vec![draft(&number.to_string())]);
        match number % 4 {
            0 => request.expected_head = Some(commonplace_types::Digest::ZERO),
            1 => request.events[0].id = Some(first.events[0].id),
            2 => request.events[0].supersedes = vec![draft("never").event_id()],
            _ => {}
        }
        let journal = fixture.journal.clone();
        tokio::spawn(async move { journal.append(request).await })
    });
    for (number, answer) in join_all(appends).await.into_iter().enumerate() {
        let answer = answer.unwrap();
        match number % 4 {
            0 => assert!(matches!(answer, Err(JournalError::HeadMoved { .. }))),
            1 => assert!(matches!(answer, Err(JournalError::EventConflict { .. }))),
            2 => assert!(matches!(answer, Err(JournalError::Invalid(_)))),
            _ => assert_eq!(answer.unwrap().commit.event_count(), 1),
        }
    }
    assert_eq!(fixture.titles(&on("main")).await.len(), 51);
    let report = fixture.journal.verify(&tenant(), &project()).await.unwrap();
    assert_eq!((report.first_break, report.commits_checked), (None, 52));
}

async fn of_many_that_insist_on_one_head_one_wins(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    let head = fixture
        .append("main", vec![draft("first")])
        .await
        .commit
        .hash;
    let appends = (0..50).map(|number| {
        let mut request = append_to("main", vec![draft(&number.to_string())]);
        request.expected_head = Some(head);
        let journal = fixture.journal.clone();
        tokio::spawn(async move { journal.append(request).await.is_ok() })
    });
    let won = join_all(appends)
        .await
        .into_iter()
        .filter(|answer| *answer.as_ref().unwrap());
    assert_eq!(won.count(), 1);
}

async fn the_same_request_at_once_is_done_once(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    fixture.append("main", vec![draft("first")]).await;
    let appends = (0..40).map(|_| {
        let mut request = append_to("main", vec![update("r", "same")]);
        request.request_id = Some([9; 16]);
        let journal = fixture.journal.clone();
        tokio::spawn(async move { journal.append(request).await.unwrap() })
    });
    let answers: Vec<_> = join_all(appends)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert!(answers.iter().all(|answer| answer == &answers[0]));
    assert!(!answers[0].events[0].duplicate);
    assert_eq!(fixture.titles(&on("main")).await.len(), 2);
}

async fn heads_within_a_group_follow_each_other(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    fixture.append("main", vec![about("r", "base")]).await;
    // On one thread all of these wait before the writer runs, so they form one group.
    let appends =
        (0..20).map(|number| fixture.try_append("main", vec![update("r", &number.to_string())]));
    join_all(appends)
        .await
        .into_iter()
        .for_each(|answer| drop(answer.unwrap()));
    assert_eq!(fixture.titles(&on("main")).await, ["19"]);
    let report = fixture.journal.verify(&tenant(), &project()).await.unwrap();
    assert_eq!(report.first_break, None);
}

async fn new_projects_in_one_group_stay_apart(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    let appends = (0..6).map(|number| {
        let mut request = append_to("main", vec![draft(&number.to_string())]);
        request.project = commonplace_types::ProjectName::new(format!("p{}", number % 3)).unwrap();
        fixture.journal.append(request)
    });
    join_all(appends)
        .await
        .into_iter()
        .for_each(|answer| drop(answer.unwrap()));
    let projects = fixture.journal.projects(&tenant(), 0, "").unwrap().items;
    let counts: Vec<u64> = projects.iter().map(|entry| entry.event_count).collect();
    assert_eq!(counts, [2, 2, 2]);
    for entry in projects {
        let report = fixture
            .journal
            .verify(&tenant(), &entry.name)
            .await
            .unwrap();
        assert_eq!(report.first_break, None, "{}", entry.name);
    }
}

async fn a_full_queue_refuses_at_once(backend: Backend) {
    let site = Site::new(backend);
    let options = Options {
        queue_appends: 4,
        ..Options::default()
    };
    let journal = start(options, site.place("journal"), Arc::new(SystemClock))
        .await
        .unwrap();
    // Polled one after the other on one thread, before the writer runs.
    let appends =
        (0..10).map(|number| journal.append(append_to("main", vec![draft(&number.to_string())])));
    let answers = join_all(appends).await;
    let refused = answers
        .iter()
        .filter(|a| matches!(a, Err(JournalError::QueueFull)))
        .count();
    assert_eq!(
        (
            refused,
            answers.iter().filter(|answer| answer.is_ok()).count()
        ),
        (6, 4)
    );
    journal
        .append(append_to("main", vec![draft("after")]))
        .await
        .unwrap();
}

async fn shutdown_answers_what_was_taken_and_keeps_it(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    fixture.append("main", vec![draft("first")]).await;
    let appends: Vec<_> = (0..100)
        .map(|number| {
            let journal = fixture.journal.clone();
            let request = append_to("main", vec![draft(&number.to_string())]);
            tokio::spawn(async move { journal.append(request).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(2)).await;
    fixture.journal.shutdown().await.unwrap();
    let mut kept = 1;
    for answer in join_all(appends).await {
        match answer.unwrap() {
            Ok(_) => kept += 1,
            Err(error) => assert!(matches!(error, JournalError::Stopping), "{error}"),
        }
    }
    let fixture = fixture.restarted().await;
    assert_eq!(fixture.titles(&on("main")).await.len(), kept);
}

async fn cancelled_appends_harm_nobody(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    fixture.append("main", vec![draft("first")]).await;
    for number in 0..50 {
        let request = append_to("main", vec![draft(&number.to_string())]);
        let wait = Duration::from_micros(number * 40);
        let _ = tokio::time::timeout(wait, fixture.journal.append(request)).await;
    }
    fixture.append("main", vec![draft("last")]).await;
    let report = fixture.journal.verify(&tenant(), &project()).await.unwrap();
    assert_eq!(report.first_break, None);
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let fixture = Fixture::new(Backend::Sqlite).await;
    let Err(error) = open(&fixture.site, fixture.clock.clone()).await else {
        panic!("opened twice");
    };
    let JournalError::Storage(cause) = &error else {
        panic!("{error}");
    };
    assert!(matches!(**cause, StorageError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("process"), "{error}");
    fixture.append("main", vec![draft("unharmed")]).await;
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_left_alone() {
    let fixture = Fixture::new(Backend::Sqlite).await;
    fixture
        .append("main", (0..200).map(|n| draft(&n.to_string())).collect())
        .await;
    fixture.journal.shutdown().await.unwrap();
    let file = fixture.path().join("journal.sqlite");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[4_096..4_160].fill(0x5a);
    std::fs::write(&file, &bytes).unwrap();
    let Err(error) = open(&fixture.site, fixture.clock.clone()).await else {
        panic!("opened a damaged file");
    };
    let text = error.to_string();
    assert!(
        text.contains("journal.sqlite") && text.contains("backup"),
        "{text}"
    );
    assert_eq!(
        std::fs::read(&file).unwrap(),
        bytes,
        "the damaged file was changed"
    );
}

#[tokio::test]
async fn a_newer_file_is_refused() {
    let fixture = Fixture::new(Backend::Sqlite).await;
    fixture.append("main", vec![draft("a")]).await;
    fixture.journal.shutdown().await.unwrap();
    let file = fixture.path().join("journal.sqlite");
    change(
        &file,
        "INSERT INTO schema_migration (version, name) VALUES (99, 'later')",
    )
    .await;
    let Err(error) = open(&fixture.site, fixture.clock.clone()).await else {
        panic!("opened a newer file");
    };
    let text = error.to_string();
    assert!(
        text.contains("journal.sqlite") && text.contains("99"),
        "{text}"
    );
}

#[tokio::test]
async fn wrong_settings_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        queue_appends: 0,
        ..Options::default()
    };
    let Err(error) = start(options, folder.path(), Arc::new(SystemClock)).await else {
        panic!("started without a queue");
    };
    assert!(
        matches!(&error, JournalError::Invalid(i) if i.field == "queue_appends"),
        "{error}"
    );
}
