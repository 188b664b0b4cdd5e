use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::candidate::Off;
use crate::rules::Weights;
use crate::testing::{candidate, clock, rules};

fn on() -> Dense {
    Dense::On {
        embedder: "e".into(),
        through: 1,
        recorded: false,
    }
}

fn days_ago(days: u64) -> Timestamp {
    clock().minus(Duration::from_secs(days * 86_400))
}

#[test]
fn recency_is_the_exponential_of_age() {
    assert_eq!(recency(clock(), clock(), 100_000), ONE);
    assert_eq!(recency(days_ago(10), clock(), 100_000), 367_879, "exp(-1)");
    assert_eq!(
        recency(days_ago(1), clock(), 693_147),
        500_000,
        "half a life"
    );
    assert_eq!(recency(Timestamp::MIN, clock(), 10_000_000), 0);
    assert_eq!(
        recency(clock(), days_ago(3), 1_000_000),
        ONE,
        "what is not yet is new"
    );
}

#[test]
fn the_total_is_the_weighted_mean_of_what_took_part() {
    let mut rules = rules();
    rules.weights = Weights {
        lexical: 400_000,
        dense: 200_000,
        recency: 200_000,
        importance: 100_000,
        pin: 100_000,
    };
    rules.recency_lambda = 693_147;
    let mut one = candidate(1);
    one.lexical_score = 3.0;
    one.dense_score = Some(0.5);
    one.dense_rank = 1;
    one.event_time = days_ago(1);
    one.pinned = true;
    let ranked = rank(vec![one.clone()], &rules, None, &on(), clock());
    let scores = ranked[0].scores;
    assert_eq!(
        scores,
        Scores {
            total: 850_000, // .4 + .2 + .2 * .5 + .1 * .5 + .1
            lexical: ONE,
            dense: ONE,
            recency: 500_000,
            importance: 500_000,
            pin: ONE
        }
    );
    let off = Dense::Off {
        reason: Off::NoModel,
    };
    let without = rank(vec![one], &rules, None, &off, clock())[0].scores;
    assert_eq!(
        (without.dense, without.total),
        (0, 812_500),
        "the rest shares the whole"
    );
}

#[test]
fn a_signal_without_weight_shows_as_nothing() {
    let mut one = candidate(1);
    one.pinned = true;
    let scores = rank(vec![one], &rules(), None, &on(), clock())[0].scores;
    assert_eq!(scores, Scores::default());
}

#[test]
fn ties_go_by_event_then_passage() {
    let mut candidates = vec![candidate(2), candidate(1), candidate(1)];
    candidates[1].key.passage = 7;
    let ranked = rank(candidates, &rules(), None, &on(), clock());
    let keys: Vec<PassageKey> = ranked.iter().map(|ranked| ranked.candidate.key).collect();
    let mut sorted = keys.clone();
    sorted.sort();
    assert_eq!(keys, sorted);
}

proptest! {
    #[test]
    fn order_and_scores_do_not_depend_on_arrival(
        mut rows in prop::collection::vec((0_u8..4, 0_u8..4, any::<bool>()), 0..20),
        seed in any::<u64>(),
    ) {
        let build = |rows: &[(usize, (u8, u8, bool))]| -> Vec<Candidate> {
            rows.iter().map(|(number, (words, meaning, pinned))| Candidate {
                lexical_score: f64::from(*words),
                dense_score: Some(f64::from(*meaning)),
                dense_rank: u32::from(*meaning),
                pinned: *pinned,
                ..candidate(*number as u32)
            }).collect()
        };
        let mut rules = rules();
        rules.weights.pin = 100_000;
        let numbered: Vec<_> = rows.drain(..).enumerate().collect();
        let mut shuffled = numbered.clone();
        let mut state = seed;
        for place in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(place, (state >> 33) as usize % (place + 1));
        }
        let first = rank(build(&numbered), &rules, None, &on(), clock());
        let second = rank(build(&shuffled), &rules, None, &on(), clock());
        prop_assert_eq!(&first, &second);
        prop_assert!(first.windows(2).all(|pair| pair[0].order() < pair[1].order()));
    }
}
