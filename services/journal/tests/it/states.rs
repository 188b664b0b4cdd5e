//! What may return and what may not, and that the same request twice is one.

use std::time::Duration;

use commonplace_journal::{Append, Appended, JournalError, Origin};
use commonplace_testkit::{Backend, each_backend};
use commonplace_types::{Draft, EventId, Timestamp};

use crate::common::*;

each_backend!(
    a_state_returns_after_another_was_said,
    a_record_can_be_retracted_again,
    the_same_states_sent_twice_add_nothing,
    what_has_a_time_or_an_id_is_the_same_observation_for_good,
    a_request_id_gives_the_first_answer_for_states_too,
    the_same_content_from_elsewhere_is_the_same_event,
    every_refused_event_is_named_and_nothing_is_written,
    a_trial_writes_nothing,
    old_requests_are_forgotten_and_young_ones_kept,
);

fn duplicates(appended: &Appended) -> Vec<bool> {
    appended
        .events
        .iter()
        .map(|event| event.duplicate)
        .collect()
}

async fn live(fixture: &Fixture, branch: &str) -> Vec<String> {
    fixture.titles(&on(branch)).await
}

async fn say(fixture: &Fixture, draft: Draft) -> bool {
    fixture.tick();
    let appended = fixture.append("main", vec![draft]).await;
    appended.events[0].duplicate
}

async fn a_state_returns_after_another_was_said(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    for (state, duplicate) in [
        ("on", false),
        ("on", true),
        ("off", false),
        ("on", false),
        ("on", true),
        ("off", false),
        ("off", true),
        ("on", false),
    ] {
        assert_eq!(
            say(&fixture, update("r", state)).await,
            duplicate,
            "{state}"
        );
        assert_eq!(live(&fixture, "main").await, [state]);
    }
    let fixture = fixture.restarted().await;
    assert!(say(&fixture, update("r", "on")).await);
    assert_eq!(fixture.all_titles(&on("main")).await.len(), 5);
    assert!(
        fixture
            .journal
            .verify(&tenant(), &project())
            .await
            .unwrap()
            .first_break
            .is_none()
    );
}

async fn a_record_can_be_retracted_again(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    for round in 0..3 {
        assert!(!say(&fixture, update("r", "here")).await, "{round}");
        assert_eq!(live(&fixture, "main").await, ["here"]);
        assert!(!say(&fixture, retract("r", "gone")).await, "{round}");
        assert!(say(&fixture, retract("r", "gone")).await, "{round}");
        assert!(!live(&fixture, "main").await.contains(&"here".to_owned()));
    }
    // Also over an observation that left the retract in place.
    say(&fixture, about("r", "seen")).await;
    assert!(!say(&fixture, retract("r", "gone")).await);
    assert!(!live(&fixture, "main").await.contains(&"seen".to_owned()));
}

async fn the_same_states_sent_twice_add_nothing(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    let states = |titles: &[&str]| {
        titles
            .iter()
            .map(|title| update("r", title))
            .collect::<Vec<_>>()
    };
    for sent in [
        &["on", "off", "on"][..],
        &["on", "off"],
        &["off", "on", "off", "on"],
    ] {
        fixture.append("main", states(sent)).await;
        let again = fixture.append("main", states(sent)).await;
        assert!(
            duplicates(&again).iter().all(|duplicate| *duplicate),
            "{sent:?}"
        );
        assert_eq!(live(&fixture, "main").await, [*sent.last().unwrap()]);
    }
}

async fn what_has_a_time_or_an_id_is_the_same_observation_for_good(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    let at = |title: &str, time: &str| Draft {
        event_time: Some(Timestamp::parse(time).unwrap()),
        ..update("r", title)
    };
    let first = at("passed", "2026-11-01T00:00:00Z");
    assert!(!say(&fixture, first.clone()).await);
    assert!(!say(&fixture, at("failed", "2026-11-02T00:00:00Z")).await);
    assert!(say(&fixture, first).await);
    assert_eq!(live(&fixture, "main").await, ["failed"]);
    let named = Draft {
        id: Some(EventId::derive(&[b"given"])),
        ..update("s", "one")
    };
    assert!(!say(&fixture, named.clone()).await);
    assert!(!say(&fixture, update("s", "two")).await);
    assert!(say(&fixture, named).await);
    assert!(live(&fixture, "main").await.contains(&"two".to_owned()));
}

async fn a_request_id_gives_the_first_answer_for_states_too(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    let request = |id: u8, draft: Draft| Append {
        request_id: Some([id; 16]),
        ..append_to("main", vec![draft])
    };
    say(&fixture, update("r", "on")).await;
    say(&fixture, update("r", "off")).await;
    let first = fixture
        .journal
        .append(request(1, update("r", "on")))
        .await
        .unwrap();
    assert!(first.events[0].returned);
    say(&fixture, update("r", "off")).await;
    let fixture = fixture.restarted().await;
    let again = fixture
        .journal
        .append(request(1, update("r", "on")))
        .await
        .unwrap();
    assert_eq!(
        (again.events, again.commit.hash),
        (first.events, first.commit.hash)
    );
    assert_eq!(live(&fixture, "main").await, ["off"]);
    // What wrote nothing is remembered too.
    let known = fixture
        .journal
        .append(request(2, update("r", "off")))
        .await
        .unwrap();
    assert!(known.events[0].duplicate);
    let other = fixture.journal.append(request(2, draft("else"))).await;
    assert!(matches!(other, Err(JournalError::Invalid(invalid)) if invalid.field == "request_id"));
}

async fn the_same_content_from_elsewhere_is_the_same_event(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    fixture.append("main", vec![draft("opening")]).await;
    fixture.branch("side", "main").await;
    let from = |branch: &str, source: &str, drafts: Vec<Draft>| Append {
        origin: Origin {
            source: source.into(),
            author: format!("by {source}"),
        },
        ..append_to(branch, drafts)
    };
    let send = async |branch: &str, source: &str, drafts: Vec<Draft>| {
        let appended = fixture.journal.append(from(branch, source, drafts)).await;
        duplicates(&appended.unwrap())
    };
    let both = || vec![draft("seen"), update("r", "on")];
    assert_eq!(send("main", "a", both()).await, [false, false]);
    assert_eq!(send("main", "./a", both()).await, [true, true]);
    assert_eq!(send("side", "/x/a", both()).await, [false, false]);
    assert_eq!(send("side", "a", both()).await, [true, true]);
    let seen = fixture
        .page(&on("side"), &Default::default(), 100, "")
        .await
        .unwrap();
    assert!(
        seen.items
            .iter()
            .filter(|e| e.draft.title != "opening")
            .all(|e| e.draft.source == "a")
    );
    // A state that returned is recognised from elsewhere as well.
    assert_eq!(send("main", "b", vec![update("r", "off")]).await, [false]);
    assert_eq!(send("main", "c", vec![update("r", "on")]).await, [false]);
    assert_eq!(send("main", "d", vec![update("r", "on")]).await, [true]);
    // What a writer states counts, and so does content.
    let stated = |source: &str, text: &str| Draft {
        id: Some(EventId::derive(&[b"given"])),
        source: source.into(),
        text: text.into(),
        ..draft("given")
    };
    assert_eq!(send("main", "a", vec![stated("", "text")]).await, [false]);
    assert_eq!(send("main", "b", vec![stated("", "text")]).await, [true]);
    for other in [stated("mine", "text"), stated("", "other")] {
        let error = fixture
            .journal
            .append(from("main", "a", vec![other]))
            .await
            .unwrap_err();
        assert!(
            matches!(error, JournalError::EventConflict { place: 0, .. }),
            "{error}"
        );
    }
    assert!(
        fixture
            .journal
            .verify(&tenant(), &project())
            .await
            .unwrap()
            .first_break
            .is_none()
    );
}

async fn every_refused_event_is_named_and_nothing_is_written(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    fixture.append("main", vec![draft("opening")]).await;
    let missing = Draft {
        supersedes: vec![EventId::derive(&[b"nowhere"])],
        ..draft("wrong")
    };
    let events = vec![draft("good"), missing.clone(), draft("fine"), missing];
    let error = fixture.try_append("main", events).await.unwrap_err();
    let failure = commonplace_rpc::Reason::failure(&error);
    let fields: Vec<&str> = failure.fields.iter().map(|f| f.field.as_str()).collect();
    assert_eq!(fields, ["events[1].supersedes", "events[3].supersedes"]);
    assert_eq!(live(&fixture, "main").await, ["opening"]);
}

async fn a_trial_writes_nothing(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    let trial = |drafts: Vec<Draft>| Append {
        validate_only: true,
        ..append_to("main", drafts)
    };
    let decided = fixture
        .journal
        .append(trial(vec![draft("a")]))
        .await
        .unwrap();
    assert_eq!(duplicates(&decided), [false]);
    assert!(
        fixture
            .journal
            .projects(&tenant(), 0, "")
            .unwrap()
            .items
            .is_empty()
    );
    fixture.append("main", vec![draft("a")]).await;
    let decided = fixture
        .journal
        .append(trial(vec![draft("a"), draft("b")]))
        .await
        .unwrap();
    assert_eq!(duplicates(&decided), [true, false]);
    assert_eq!(live(&fixture, "main").await, ["a"]);
    assert!(!say(&fixture, draft("b")).await);
}

async fn old_requests_are_forgotten_and_young_ones_kept(backend: Backend) {
    let fixture = Fixture::new(backend).await;
    let send = async |id: u128, title: &str| {
        let request = Append {
            request_id: Some(id.to_be_bytes()),
            ..append_to("main", vec![draft(title)])
        };
        fixture.journal.append(request).await
    };
    send(0, "old").await.unwrap();
    fixture.clock.advance(Duration::from_secs(400 * 86_400));
    // More than one sweep is due.
    for id in 1..300 {
        send(id, "young").await.unwrap();
    }
    assert!(!send(0, "other").await.unwrap().events[0].duplicate);
    let error = send(1, "another").await.unwrap_err();
    assert!(matches!(error, JournalError::Invalid(invalid) if invalid.field == "request_id"));
}
