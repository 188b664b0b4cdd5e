use commonplace_types::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::testing::event;

fn passage(number: u32, text: usize) -> Arc<Passage> {
    Arc::new(Passage {
        key: wanted(number).key,
        record: String::new(),
        artifact_type: String::new(),
        title: String::new(),
        text: "x".repeat(text),
        start: 0,
        end: text as u64,
        event_time: Timestamp::MIN,
        source: String::new(),
        author: String::new(),
        checksum: String::new(),
        tokens: number,
    })
}

fn wanted(number: u32) -> Wanted {
    Wanted {
        key: PassageKey {
            event: event(number),
            passage: number % 3,
        },
        content: *event(number).as_bytes(),
        tokens: number,
    }
}

fn tenant(name: &str) -> TenantName {
    TenantName::new(name).unwrap()
}

fn project(name: &str) -> ProjectName {
    ProjectName::new(name).unwrap()
}

#[test]
fn a_text_is_known_for_its_project_content_and_tokens_alone() {
    let texts = Texts::new(10_000);
    let own = texts.of(&tenant("a"), &project("b"));
    own.learn(&wanted(1), &passage(1, 10));
    assert_eq!(
        own.known(&[wanted(2), wanted(1)]),
        [None, Some(passage(1, 10))]
    );
    let others = [
        texts.of(&tenant("b"), &project("b")),
        texts.of(&tenant("a"), &project("a")),
        // No way to cut the names makes one project another.
        texts.of(&tenant("ab"), &project("b")),
    ];
    for other in others {
        assert_eq!(other.known(&[wanted(1)]), [None]);
    }
    // An index that has cut the event otherwise since the search.
    own.learn(&wanted(2), &passage(3, 10));
    assert_eq!(own.known(&[wanted(2)]), [None]);
    let changes: [fn(&mut Wanted); 4] = [
        |wanted| wanted.key.passage += 1,
        |wanted| wanted.key.event = event(7),
        |wanted| wanted.content[3] ^= 1,
        |wanted| wanted.tokens += 1,
    ];
    for change in changes {
        let mut other = wanted(1);
        change(&mut other);
        assert_eq!(own.known(&[other]), [None], "{other:?}");
    }
}

proptest! {
    #[test]
    fn it_holds_the_last_used_that_fit(
        most in 0_usize..4_000,
        steps in prop::collection::vec((any::<bool>(), 0_u32..12, 0_usize..1_500), 0..80),
    ) {
        let texts = Texts::new(most);
        let own = texts.of(&tenant("a"), &project("b"));
        // Used last comes last.
        let mut model: Vec<(u32, usize)> = Vec::new();
        for (learns, number, text) in steps {
            let known = model.iter().position(|(known, _)| *known == number);
            if learns {
                own.learn(&wanted(number), &passage(number, text));
                if OVERHEAD + text <= most {
                    known.map(|at| model.remove(at));
                    model.push((number, OVERHEAD + text));
                }
                while model.iter().map(|(_, size)| size).sum::<usize>() > most {
                    model.remove(0);
                }
            } else {
                let found = own.known(&[wanted(number)]).remove(0);
                let size = found.map(|found| OVERHEAD + found.text.len());
                prop_assert_eq!(size, known.map(|at| model[at].1));
                known.map(|at| model.remove(at)).into_iter().for_each(|used| model.push(used));
            }
            let state = texts.state();
            prop_assert_eq!(state.bytes, model.iter().map(|(_, size)| size).sum::<usize>());
            prop_assert_eq!(state.texts.len(), model.len());
        }
    }
}
