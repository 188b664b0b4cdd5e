//! The contract of the journal, from outside: what every storage backend must do.

use commonplace_journal::{JournalError, RefName, Selection};
use commonplace_rpc::convert::Filter;
use commonplace_testkit::{Backend, each_backend};
use commonplace_types::{
    ArtifactType, Attribute, Digest, Importance, ProjectName, RecordId, Reference, TagName,
    Timestamp,
};

use crate::common::*;

each_backend!(
    texts_without_end_are_refused_by_name_and_nobody_else_suffers,
    the_first_append_opens_the_project,
    only_main_opens_a_project,
    a_refused_first_append_opens_nothing,
    branches_see_their_past_and_themselves,
    a_branch_from_the_opening_commit_is_empty,
    the_past_stays_readable,
    heads_are_filled_in_where_the_writer_stands,
    the_same_retraction_on_two_branches_retracts_on_both,
    what_is_there_already_is_not_written_again,
    an_append_can_insist_on_the_head,
    a_request_id_gets_its_first_answer,
    a_repeated_ref_request_gets_its_first_answer,
    refs_are_made_once,
    unknown_points_are_named,
    filters_hold_together,
    pages_pin_their_commit,
    a_page_token_is_bound_to_its_request,
    commits_are_paged_too,
    projects_do_not_meet,
    everything_is_there_after_a_restart,
    an_event_reads_back_as_it_was_written,
    bounds_of_an_append_are_named,
    large_events_make_short_pages,
);

async fn the_first_append_opens_the_project(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    let error = fixture
        .journal
        .resolve(&tenant(), &project(), &on("main"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, JournalError::ProjectNotFound { .. }),
        "{error}"
    );
    let appended = fixture.append("main", vec![draft("a"), draft("b")]).await;
    let commit = &appended.commit;
    assert_eq!((commit.number, commit.lane), (1, 1));
    assert_eq!((commit.first_position, commit.last_position), (1, 2));
    assert_eq!(appended.events[1].position, 2);
    let log = fixture
        .journal
        .commits(&tenant(), &project(), &on("main"), 0, "")
        .await
        .unwrap();
    let numbers: Vec<u64> = log.items.iter().map(|commit| commit.number).collect();
    assert_eq!(numbers, [1, 0]);
    assert_eq!(log.items[0].parents, [log.items[1].hash]);
    assert!(log.items[1].parents.is_empty());
}

async fn only_main_opens_a_project(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    let error = fixture
        .try_append("side", vec![draft("a")])
        .await
        .unwrap_err();
    assert!(
        matches!(error, JournalError::ProjectNotFound { .. }),
        "{error}"
    );
    fixture.append("main", vec![draft("a")]).await;
    let error = fixture
        .try_append("side", vec![draft("b")])
        .await
        .unwrap_err();
    assert!(
        matches!(error, JournalError::RefNotFound { kind: "branch", .. }),
        "{error}"
    );
}

async fn a_refused_first_append_opens_nothing(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    let mut wrong = draft("a");
    wrong.supersedes = vec![draft("missing").event_id()];
    let error = fixture.try_append("main", vec![wrong]).await.unwrap_err();
    let JournalError::Invalid(invalid) = error else {
        panic!("{error}");
    };
    assert_eq!(invalid.field, "events[0].supersedes");
    assert!(
        fixture
            .journal
            .projects(&tenant(), 0, "")
            .unwrap()
            .items
            .is_empty()
    );
}

async fn branches_see_their_past_and_themselves(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    fixture.append("main", vec![draft("a")]).await;
    let made = fixture.branch("side", "main").await;
    assert_eq!(made.commit.number, 1);
    fixture.tick();
    fixture.append("main", vec![draft("b")]).await;
    fixture.tick();
    let on_side = fixture.append("side", vec![draft("c")]).await;
    assert_eq!((on_side.commit.lane, on_side.commit.first_position), (2, 1));
    assert_eq!(fixture.titles(&on("main")).await, ["b", "a"]);
    assert_eq!(fixture.titles(&on("side")).await, ["c", "a"]);
    fixture.branch("leaf", "side").await;
    fixture.tick();
    fixture.append("leaf", vec![draft("d")]).await;
    fixture.append("side", vec![draft("e")]).await;
    assert_eq!(fixture.titles(&on("leaf")).await, ["d", "c", "a"]);
    let log = fixture
        .journal
        .commits(&tenant(), &project(), &on("leaf"), 0, "")
        .await
        .unwrap();
    let numbers: Vec<u64> = log.items.iter().map(|commit| commit.number).collect();
    assert_eq!(numbers, [4, 3, 1, 0]);
}

async fn a_branch_from_the_opening_commit_is_empty(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    let first = fixture.append("main", vec![draft("a")]).await;
    let opening = Reference::Commit(first.commit.parents[0]);
    fixture.try_branch("bare", opening).await.unwrap();
    fixture.append("bare", vec![draft("b")]).await;
    assert_eq!(fixture.titles(&on("bare")).await, ["b"]);
    let log = fixture
        .journal
        .commits(&tenant(), &project(), &on("bare"), 0, "")
        .await
        .unwrap();
    assert_eq!(log.items.len(), 2);
}

async fn the_past_stays_readable(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    let first = fixture.append("main", vec![about("r", "old")]).await;
    fixture.tick();
    let second = fixture.append("main", vec![update("r", "new")]).await;
    fixture.tick();
    fixture.append("main", vec![retract("r", "gone")]).await;
    assert_eq!(
        fixture.titles(&Reference::Commit(first.commit.hash)).await,
        ["old"]
    );
    assert_eq!(
        fixture.titles(&Reference::Commit(second.commit.hash)).await,
        ["new"]
    );
    assert_eq!(fixture.titles(&on("main")).await, ["gone"]);
    assert_eq!(
        fixture.all_titles(&on("main")).await,
        ["gone", "new", "old"]
    );
    let prefix = second.commit.hash.to_string()[..12].to_owned();
    assert_eq!(fixture.titles(&Reference::Prefix(prefix)).await, ["new"]);
    let error = fixture
        .event(&on("main"), draft("never").event_id())
        .await
        .unwrap_err();
    assert!(matches!(error, JournalError::EventNotFound { .. }));
    let early = Reference::Commit(first.commit.hash);
    let error = fixture
        .event(&early, second.events[0].id)
        .await
        .unwrap_err();
    assert!(
        matches!(error, JournalError::EventNotFound { .. }),
        "seen before it was written"
    );
}

async fn heads_are_filled_in_where_the_writer_stands(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    let base = fixture
        .append("main", vec![about("r", "base")])
        .await
        .events[0]
        .id;
    fixture.branch("side", "main").await;
    fixture.append("main", vec![update("r", "ours")]).await;
    let theirs = fixture
        .append("side", vec![update("r", "theirs")])
        .await
        .events[0]
        .id;
    let event = fixture.event(&on("side"), theirs).await.unwrap();
    assert_eq!(event.draft.supersedes, [base]);
    // Within one append, the later event sees the earlier.
    let both = fixture
        .append("main", vec![update("r", "one"), update("r", "two")])
        .await;
    let two = fixture.event(&on("main"), both.events[1].id).await.unwrap();
    assert_eq!(two.draft.supersedes, [both.events[0].id]);
    assert_eq!(fixture.titles(&on("main")).await, ["two"]);
}

async fn the_same_retraction_on_two_branches_retracts_on_both(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    fixture.append("main", vec![about("r", "base")]).await;
    fixture.branch("side", "main").await;
    fixture.append("side", vec![about("r", "side only")]).await;
    let gone = retract("r", "gone");
    let first = fixture.append("main", vec![gone.clone()]).await;
    let second = fixture.append("side", vec![gone]).await;
    assert_eq!(first.events[0].id, second.events[0].id);
    assert!(!second.events[0].duplicate);
    assert_eq!(fixture.titles(&on("main")).await, ["gone"]);
    assert_eq!(fixture.titles(&on("side")).await, ["gone"]);
    let seen = fixture
        .event(&on("side"), second.events[0].id)
        .await
        .unwrap();
    assert_eq!(seen.draft.supersedes.len(), 2);
    let seen = fixture
        .event(&on("main"), second.events[0].id)
        .await
        .unwrap();
    assert_eq!(seen.draft.supersedes.len(), 1);
    let projects = fixture.journal.projects(&tenant(), 0, "").unwrap();
    assert_eq!(
        projects.items[0].event_count, 3,
        "a placed event is stored once"
    );
}

async fn what_is_there_already_is_not_written_again(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    let first = fixture.append("main", vec![draft("a"), draft("b")]).await;
    let again = fixture.append("main", vec![draft("b"), draft("a")]).await;
    assert_eq!(again.commit.hash, first.commit.hash);
    assert!(again.events.iter().all(|event| event.duplicate));
    assert_eq!(again.events[0].position, 2);
    let mixed = fixture
        .append("main", vec![draft("b"), draft("c"), draft("c")])
        .await;
    let duplicates: Vec<bool> = mixed.events.iter().map(|event| event.duplicate).collect();
    assert_eq!(duplicates, [true, false, true]);
    assert_eq!(mixed.commit.event_count(), 1);
    let mut taken = draft("other content");
    taken.id = Some(first.events[0].id);
    let error = fixture.try_append("main", vec![taken]).await.unwrap_err();
    assert!(
        matches!(error, JournalError::EventConflict { id, .. } if id == first.events[0].id),
        "{error}"
    );
}

async fn an_append_can_insist_on_the_head(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    let first = fixture.append("main", vec![draft("a")]).await;
    let mut request = append_to("main", vec![draft("b")]);
    request.expected_head = Some(first.commit.hash);
    let second = fixture.journal.append(request.clone()).await.unwrap();
    request.events = vec![draft("c")];
    let error = fixture.journal.append(request).await.unwrap_err();
    let JournalError::HeadMoved { head, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(head, second.commit.hash);
    assert_eq!(fixture.titles(&on("main")).await.len(), 2);
}

async fn a_request_id_gets_its_first_answer(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    let mut request = append_to("main", vec![draft("a")]);
    request.request_id = Some([1; 16]);
    let first = fixture.journal.append(request.clone()).await.unwrap();
    fixture.append("main", vec![draft("b")]).await;
    let fixture = fixture.restarted().await;
    let again = fixture.journal.append(request.clone()).await.unwrap();
    assert_eq!(again, first);
    request.message = "another".into();
    let error = fixture.journal.append(request).await.unwrap_err();
    assert!(
        matches!(&error, JournalError::Invalid(i) if i.field == "request_id"),
        "{error}"
    );
}

async fn a_repeated_ref_request_gets_its_first_answer(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    fixture.append("main", vec![draft("a")]).await;
    let mut request = create(RefName::Branch(branch("side")), on("main"));
    request.request_id = Some([2; 16]);
    let first = fixture.journal.create_ref(request.clone()).await.unwrap();
    fixture.append("main", vec![draft("b")]).await;
    fixture.append("side", vec![draft("c")]).await;
    assert_eq!(
        fixture.journal.create_ref(request.clone()).await.unwrap(),
        first
    );
    request.name = RefName::Branch(branch("else"));
    let error = fixture.journal.create_ref(request).await.unwrap_err();
    assert!(
        matches!(&error, JournalError::Invalid(i) if i.field == "request_id"),
        "{error}"
    );
}

async fn refs_are_made_once(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    let first = fixture.append("main", vec![draft("a")]).await;
    let at_first = Reference::Commit(first.commit.hash);
    fixture.branch("side", "main").await;
    fixture.append("side", vec![draft("b")]).await;
    let second = fixture.append("main", vec![draft("c")]).await;
    // At the point it was made at, a repeat is no error, wherever the branch stands now.
    assert_eq!(
        fixture
            .try_branch("side", at_first.clone())
            .await
            .unwrap()
            .commit
            .number,
        2
    );
    let error = fixture.try_branch("side", on("main")).await.unwrap_err();
    assert!(
        matches!(error, JournalError::RefConflict { kind: "branch", .. }),
        "{error}"
    );
    fixture.try_tag("v1", at_first.clone()).await.unwrap();
    fixture.try_tag("v1", at_first.clone()).await.unwrap();
    let error = fixture.try_tag("v1", on("main")).await.unwrap_err();
    assert!(
        matches!(error, JournalError::RefConflict { kind: "tag", .. }),
        "{error}"
    );
    let tag = Reference::Tag(TagName::new("v1").unwrap());
    assert_eq!(fixture.titles(&tag).await, ["a"]);
    let refs = fixture.journal.refs(&tenant(), &project()).unwrap();
    let names: Vec<&str> = refs.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["main", "side", "v1"]);
    assert_eq!(refs[0].commit.hash, second.commit.hash);
    let fixture = fixture.restarted().await;
    assert_eq!(fixture.journal.refs(&tenant(), &project()).unwrap(), refs);
}

async fn unknown_points_are_named(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    fixture.append("main", vec![draft("a")]).await;
    let find = async |reference: Reference| {
        fixture
            .journal
            .resolve(&tenant(), &project(), &reference)
            .await
            .unwrap_err()
            .to_string()
    };
    assert!(find(on("nope")).await.contains("branch `nope` not found"));
    let tag = Reference::Tag(TagName::new("v9").unwrap());
    assert!(find(tag).await.contains("tag `v9` not found"));
    let hash = Digest::of(&[b"nothing"]);
    assert!(
        find(Reference::Commit(hash))
            .await
            .contains(&hash.to_string())
    );
    assert!(
        find(Reference::Prefix("01234567".into()))
            .await
            .contains("01234567")
    );
}

async fn filters_hold_together(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    let mut one = about("r:1", "one");
    one.artifact_type = ArtifactType::new("bug").unwrap();
    one.tags = vec!["x".into(), "y".into()];
    one.agent = "a1".into();
    one.source = "s1".into();
    one.importance = Importance::new(0.9).unwrap();
    one.pinned = true;
    one.event_time = Some(Timestamp::parse("2026-01-01T00:00:00Z").unwrap());
    one.attributes = vec![Attribute::new("verdict", "failed")];
    one.correlation_id = "run-1".into();
    let mut two = about("r:2", "two");
    two.tags = vec!["y".into()];
    two.attributes = vec![Attribute::new("verdict", "passed")];
    two.event_time = Some(Timestamp::parse("2026-02-01T00:00:00Z").unwrap());
    let events = vec![
        one.checked().unwrap(),
        two.checked().unwrap(),
        draft("three"),
    ];
    fixture.append("main", events).await;
    let select = async |filter: Filter| {
        let selection = Selection {
            filter,
            ..Selection::default()
        };
        fixture.select(&on("main"), selection).await
    };
    let filter = Filter::default;
    assert_eq!(select(filter()).await, ["three", "two", "one"]);
    let types = vec![ArtifactType::new("bug").unwrap()];
    assert_eq!(
        select(Filter {
            artifact_types: types,
            ..filter()
        })
        .await,
        ["one"]
    );
    assert_eq!(
        select(Filter {
            tags_any: vec!["y".into()],
            ..filter()
        })
        .await,
        ["two", "one"]
    );
    assert_eq!(
        select(Filter {
            agents: vec!["a1".into()],
            ..filter()
        })
        .await,
        ["one"]
    );
    assert_eq!(
        select(Filter {
            sources: vec!["s1".into(), "s2".into()],
            ..filter()
        })
        .await,
        ["one"]
    );
    let records = vec![RecordId::new("r:2").unwrap(), RecordId::new("r:3").unwrap()];
    assert_eq!(
        select(Filter {
            record_ids: records,
            ..filter()
        })
        .await,
        ["two"]
    );
    let from = Some(Timestamp::parse("2026-02-01T00:00:00Z").unwrap());
    assert_eq!(
        select(Filter {
            from_time: from,
            ..filter()
        })
        .await,
        ["three", "two"]
    );
    assert_eq!(
        select(Filter {
            to_time: from,
            ..filter()
        })
        .await,
        ["one"]
    );
    let least = Some(Importance::new(0.6).unwrap());
    assert_eq!(
        select(Filter {
            min_importance: least,
            ..filter()
        })
        .await,
        ["one"]
    );
    assert_eq!(
        select(Filter {
            pinned_only: true,
            ..filter()
        })
        .await,
        ["one"]
    );
    let failed = vec![Attribute::new("verdict", "failed")];
    assert_eq!(
        select(Filter {
            attributes: failed.clone(),
            ..filter()
        })
        .await,
        ["one"]
    );
    assert_eq!(
        select(Filter {
            correlation_id: "run-1".into(),
            ..filter()
        })
        .await,
        ["one"]
    );
    let none = Filter {
        attributes: failed,
        tags_any: vec!["z".into()],
        ..filter()
    };
    assert!(select(none).await.is_empty());
}

async fn pages_pin_their_commit(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    for number in 0..25 {
        fixture
            .append("main", vec![draft(&format!("{number:02}"))])
            .await;
        if number % 3 == 0 {
            fixture.tick();
        }
    }
    let before = fixture.titles(&on("main")).await;
    let selection = Selection::default();
    let (mut token, mut seen) = (String::new(), Vec::new());
    loop {
        let page = fixture
            .page(&on("main"), &selection, 7, &token)
            .await
            .unwrap();
        seen.extend(page.items.into_iter().map(|event| event.draft.title));
        // Later appends do not shift the pages.
        fixture
            .append("main", vec![draft(&format!("later {}", seen.len()))])
            .await;
        token = page.next;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, before);
}

async fn a_page_token_is_bound_to_its_request(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    fixture
        .append("main", (0..5).map(|n| draft(&n.to_string())).collect())
        .await;
    let selection = Selection::default();
    let token = fixture
        .page(&on("main"), &selection, 2, "")
        .await
        .unwrap()
        .next;
    let other = Selection {
        include_superseded: true,
        ..Selection::default()
    };
    let error = fixture
        .page(&on("main"), &other, 2, &token)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, JournalError::Invalid(i) if i.field == "page_token"),
        "{error}"
    );
    for wrong in ["x", "0202", &token[2..], &token.replace('a', "b")] {
        if wrong == token {
            continue;
        }
        let error = fixture
            .page(&on("main"), &selection, 2, wrong)
            .await
            .unwrap_err();
        assert!(
            matches!(&error, JournalError::Invalid(i) if i.field == "page_token"),
            "{error}"
        );
    }
    let error = fixture
        .page(&on("main"), &selection, 1_001, "")
        .await
        .unwrap_err();
    assert!(
        matches!(&error, JournalError::Invalid(i) if i.field == "page_size"),
        "{error}"
    );
}

async fn commits_are_paged_too(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    for number in 0..10 {
        fixture
            .append("main", vec![draft(&number.to_string())])
            .await;
    }
    let (mut token, mut numbers) = (String::new(), Vec::new());
    loop {
        let page = fixture
            .journal
            .commits(&tenant(), &project(), &on("main"), 4, &token)
            .await
            .unwrap();
        numbers.extend(page.items.iter().map(|commit| commit.number));
        fixture
            .append("main", vec![draft(&format!("x{}", numbers.len()))])
            .await;
        token = page.next;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(numbers, (0..=10).rev().collect::<Vec<u64>>());
}

async fn projects_do_not_meet(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    fixture.append("main", vec![draft("a")]).await;
    for name in ["b", "c"] {
        let mut request = append_to("main", vec![draft("a"), draft(name)]);
        request.project = ProjectName::new(name).unwrap();
        let appended = fixture.journal.append(request).await.unwrap();
        assert!(
            appended.events.iter().all(|event| !event.duplicate),
            "{name}"
        );
    }
    let page = fixture.journal.projects(&tenant(), 2, "").unwrap();
    let names: Vec<String> = page
        .items
        .iter()
        .map(|entry| entry.name.to_string())
        .collect();
    assert_eq!(names, ["b", "c"]);
    let rest = fixture.journal.projects(&tenant(), 2, &page.next).unwrap();
    assert_eq!(rest.items[0].name, project());
    assert_eq!(
        (rest.items[0].commit_count, rest.items[0].event_count),
        (2, 1)
    );
    assert!(rest.next.is_empty());
    assert_eq!(fixture.titles(&on("main")).await, ["a"]);
}

async fn everything_is_there_after_a_restart(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    fixture
        .append("main", vec![about("r", "a"), draft("b")])
        .await;
    fixture.branch("side", "main").await;
    fixture.append("side", vec![update("r", "c")]).await;
    let seen = (
        fixture.titles(&on("main")).await,
        fixture.titles(&on("side")).await,
    );
    let fixture = fixture.restarted().await;
    assert_eq!(
        (
            fixture.titles(&on("main")).await,
            fixture.titles(&on("side")).await
        ),
        seen
    );
    let next = fixture.append("side", vec![draft("d")]).await;
    assert_eq!((next.commit.number, next.commit.first_position), (3, 2));
    let report = fixture.journal.verify(&tenant(), &project()).await.unwrap();
    assert_eq!(report.first_break, None);
    assert_eq!((report.commits_checked, report.events_checked), (4, 4));
}

async fn an_event_reads_back_as_it_was_written(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    let mut stated = about("r:1", "title");
    stated.text = "a text of several\nlines, ü included".into();
    stated.attributes = vec![Attribute::new("k", "v")];
    stated.valid_to = Some(Timestamp::MAX);
    let stated = stated.checked().unwrap();
    let mut request = append_to("main", vec![stated.clone()]);
    request.traceparent = "00-trace".into();
    let id = fixture.journal.append(request).await.unwrap().events[0].id;
    let event = fixture.event(&on("main"), id).await.unwrap();
    assert_eq!(event.checksum, stated.checksum());
    assert_eq!(event.recorded_time, start_time());
    assert_eq!(event.traceparent, "00-trace");
    assert_eq!(event.record_id.as_str(), "r:1");
    let mut expected = stated;
    expected.id = Some(id);
    assert_eq!(event.draft, expected);
}

async fn bounds_of_an_append_are_named(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    let check = async |request, field: &str| {
        let error = fixture.journal.append(request).await.unwrap_err();
        assert!(
            matches!(&error, JournalError::Invalid(i) if i.field == field),
            "{error}"
        );
    };
    check(append_to("main", Vec::new()), "events").await;
    let many = (0..5_001)
        .map(|number| draft(&number.to_string()))
        .collect();
    check(append_to("main", many), "events").await;
    let mut large = draft("large");
    large.text = "x".repeat(1 << 20);
    let large = (0..17).map(|number| {
        let mut event = large.clone();
        event.title = number.to_string();
        event
    });
    check(append_to("main", large.collect()), "events").await;
    let mut wordy = append_to("main", vec![draft("a")]);
    wordy.message = "x".repeat(1_025);
    check(wordy, "message").await;
}

async fn large_events_make_short_pages(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    for round in 0..2 {
        let large = (0..12).map(|number| {
            let mut event = draft(&format!("{round} {number}"));
            event.text = "x".repeat(1 << 20);
            event
        });
        fixture.append("main", large.collect()).await;
    }
    let (selection, mut token, mut sizes) = (Selection::default(), String::new(), Vec::new());
    let mut ids = Vec::new();
    loop {
        let page = fixture
            .page(&on("main"), &selection, 1_000, &token)
            .await
            .unwrap();
        sizes.push(page.items.len());
        ids.extend(page.items.iter().map(|event| event.id));
        token = page.next;
        if token.is_empty() {
            break;
        }
    }
    // Titles and the rest count as well, so that 4 MiB hold 3 texts of 1 MiB.
    assert_eq!(sizes, [3; 8]);
    let error = fixture
        .journal
        .events(&tenant(), &project(), &on("main"), &ids)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, JournalError::Invalid(i) if i.field == "ids"),
        "{error}"
    );
}

async fn texts_without_end_are_refused_by_name_and_nobody_else_suffers(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    let mut wrong = append_to("main", vec![draft("a"), draft("b")]);
    wrong.events[1].agent = "a\0b".into();
    let other = append_to("main", vec![draft("other")]);
    // Both wait for the writer together.
    let (refused, kept) =
        tokio::join!(fixture.journal.append(wrong), fixture.journal.append(other));
    let Err(JournalError::Invalid(invalid)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(invalid.field, "events[1].agent");
    kept.unwrap();
    let mut title = draft("t\0t");
    title.text = "\0".into();
    fixture.append("main", vec![title]).await;
    assert_eq!(fixture.titles(&on("main")).await.len(), 2);
}
