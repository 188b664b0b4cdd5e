use proptest::prelude::*;

use super::*;
use crate::ranking::Scores;
use crate::testing::{candidate, rules};

fn ranked(number: u32, total: u32, tokens: u32) -> Ranked {
    let candidate = Candidate {
        tokens,
        ..candidate(number)
    };
    Ranked {
        candidate,
        scores: Scores {
            total,
            ..Scores::default()
        },
    }
}

fn words(packed: &Packed) -> Vec<&str> {
    packed
        .outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Included => "in",
            Outcome::Excluded { reason, .. } => reason.as_str(),
        })
        .collect()
}

fn detail(packed: &Packed, place: usize) -> &str {
    match &packed.outcomes[place] {
        Outcome::Included => "",
        Outcome::Excluded { detail, .. } => detail,
    }
}

#[test]
fn greedy_takes_the_best_and_skips_what_does_not_fit() {
    let list = [ranked(1, 9, 50), ranked(2, 8, 60), ranked(3, 7, 50)];
    let packed = pack(&list, &rules(), &[], 100);
    assert_eq!(words(&packed), ["in", "budget", "in"]);
    assert_eq!((packed.used, packed.smallest_left_out), (100, Some(60)));
    assert_eq!(detail(&packed, 1), "takes 60, 50 left");
}

#[test]
fn knapsack_takes_the_best_set() {
    let mut rules = rules();
    rules.packing = PackingMethod::Knapsack;
    let list = [
        ranked(1, 9, 70),
        ranked(2, 8, 50),
        ranked(3, 7, 50),
        ranked(4, 1, 1),
    ];
    let packed = pack(&list, &rules, &[], 100);
    assert_eq!(words(&packed), ["budget", "in", "in", "budget"]);
    assert_eq!(
        (packed.trace.pool, packed.trace.chosen, packed.trace.step),
        (4, 2, 1)
    );
}

#[test]
fn each_rule_gives_its_reason() {
    let mut rules = rules();
    rules.max_items = 4;
    rules.max_per_event = 2;
    rules.min_score = 10;
    rules.quotas = vec![("bug".into(), 1)];
    let with = |number, change: fn(&mut Candidate)| {
        let mut ranked = ranked(number, 90 - number, 10);
        change(&mut ranked.candidate);
        ranked
    };
    let list = [
        with(1, |_| ()),
        with(2, |c| c.eligibility = Eligibility::Superseded),
        with(3, |c| c.eligibility = Eligibility::Filtered),
        with(4, |c| c.content = candidate(1).content),
        with(5, |c| c.artifact_type = "bug".into()),
        with(6, |c| c.artifact_type = "bug".into()),
        with(7, |c| {
            c.key = PassageKey {
                event: candidate(1).key.event,
                passage: 1,
            }
        }),
        with(8, |c| {
            c.key = PassageKey {
                event: candidate(1).key.event,
                passage: 2,
            }
        }),
        with(9, |c| c.tokens = 1_000),
        with(10, |c| c.tags = vec!["x".into()]),
        with(11, |_| ()),
        ranked(12, 9, 10),
    ];
    let packed = pack(&list, &rules, &[], 100);
    assert_eq!(
        words(&packed),
        [
            "in",
            "superseded",
            "policy",
            "duplicate",
            "in",
            "policy",
            "in",
            "duplicate",
            "budget",
            "in",
            "rank",
            "policy"
        ]
    );
    assert_eq!(
        detail(&packed, 3),
        format!("same content as {}#0", candidate(1).key.event)
    );
    assert_eq!(detail(&packed, 5), "quota of 1 for `bug`");
    assert_eq!(detail(&packed, 7), "2 of its event are in");
    assert_eq!(detail(&packed, 10), "below place 4");
    assert_eq!(detail(&packed, 11), "below the least score");
    let tagged = pack(&list, &rules, &["x".into()], 100);
    assert_eq!(
        words(&tagged).iter().filter(|word| **word == "in").count(),
        1
    );
}

#[test]
fn what_must_be_in_goes_first_whatever_its_score() {
    let mut rules = rules();
    rules.min_score = 500;
    for method in [PackingMethod::Greedy, PackingMethod::Knapsack] {
        rules.packing = method;
        let mut last = ranked(3, 1, 80);
        last.candidate.always = true;
        let packed = pack(
            &[ranked(1, 900, 50), ranked(2, 800, 20), last],
            &rules,
            &["x".into()],
            100,
        );
        assert_eq!(words(&packed), ["policy", "policy", "in"]);
        let mut last = ranked(3, 1, 80);
        last.candidate.always = true;
        let packed = pack(
            &[ranked(1, 900, 50), ranked(2, 800, 20), last],
            &rules,
            &[],
            100,
        );
        assert_eq!(words(&packed), ["budget", "in", "in"]);
        assert_eq!(packed.trace.always, 1);
    }
}

#[test]
fn nothing_in_gives_nothing_out() {
    let packed = pack(&[], &rules(), &[], 100);
    assert_eq!(
        (packed.outcomes.len(), packed.used, packed.smallest_left_out),
        (0, 0, None)
    );
}

type Row = (u32, u32, u32, u32, u8, u8, bool);

fn build(rows: &[Row]) -> Vec<Ranked> {
    let mut list: Vec<Ranked> = (0..)
        .zip(rows)
        .map(
            |(number, (total, tokens, event, content, kind, eligibility, always))| {
                let mut ranked = ranked(*event, *total, *tokens);
                ranked.candidate.key.passage = number;
                ranked.candidate.content = candidate(*content).content;
                ranked.candidate.artifact_type = ["diff", "bug"][usize::from(*kind % 2)].into();
                ranked.candidate.eligibility = match eligibility {
                    0 => Eligibility::Superseded,
                    1 => Eligibility::Filtered,
                    _ => Eligibility::Eligible,
                };
                ranked.candidate.always = *always && *eligibility > 1;
                ranked
            },
        )
        .collect();
    list.sort_by_key(Ranked::order);
    list
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (
        0_u32..100,
        0_u32..60,
        0_u32..12,
        0_u32..30,
        any::<u8>(),
        0_u8..8,
        prop::bool::weighted(0.1),
    );
    prop::collection::vec(row, 0..40)
}

fn limits() -> impl Strategy<Value = (u32, u32, u32, u32, u32, bool)> {
    (
        0_u32..400,
        1_u32..20,
        1_u32..4,
        0_u32..50,
        0_u32..5,
        any::<bool>(),
    )
}

/// Greedy packing as its definition says, told item by item from scratch.
fn model(list: &[Ranked], rules: &Rules, budget: u32) -> Vec<bool> {
    let mut inside = vec![false; list.len()];
    for always in [true, false] {
        for place in 0..list.len() {
            let one = &list[place].candidate;
            let inner: Vec<&Candidate> = (0..list.len())
                .filter(|p| inside[*p])
                .map(|p| &list[p].candidate)
                .collect();
            let used: u32 = inner.iter().map(|c| c.tokens).sum();
            let quota = rules
                .quotas
                .iter()
                .find(|(kind, _)| **kind == *one.artifact_type);
            let of_type = inner
                .iter()
                .filter(|c| c.artifact_type == one.artifact_type)
                .count();
            let fits = !inside[place]
                && (one.always || !always)
                && one.eligibility == Eligibility::Eligible
                && (one.always || list[place].scores.total >= rules.min_score)
                && inner.iter().all(|c| c.content != one.content)
                && inner
                    .iter()
                    .filter(|c| c.key.event == one.key.event)
                    .count()
                    < rules.max_per_event as usize
                && quota.is_none_or(|(_, most)| of_type < *most as usize)
                && inner.len() < rules.max_items as usize
                && used + one.tokens <= budget;
            // What was refused while it must be in is not asked again: it would be refused again.
            inside[place] |= fits;
        }
    }
    inside
}

proptest! {
    #[test]
    fn greedy_is_what_its_definition_says(rows in rows(), limits in limits()) {
        let list = build(&rows);
        let mut rules = rules();
        let (budget, max_items, max_per_event, min_score, quota, _) = limits;
        (rules.max_items, rules.max_per_event, rules.min_score) = (max_items, max_per_event, min_score);
        rules.quotas = vec![("bug".into(), quota)];
        let packed = pack(&list, &rules, &[], budget);
        let inside: Vec<bool> = packed.outcomes.iter().map(|o| *o == Outcome::Included).collect();
        prop_assert_eq!(inside, model(&list, &rules, budget));
    }

    #[test]
    fn the_budget_holds_and_every_candidate_has_one_outcome(rows in rows(), limits in limits()) {
        let list = build(&rows);
        let mut rules = rules();
        let (budget, max_items, max_per_event, min_score, quota, knapsack) = limits;
        (rules.max_items, rules.max_per_event, rules.min_score) = (max_items, max_per_event, min_score);
        rules.quotas = vec![("bug".into(), quota)];
        rules.packing = if knapsack { PackingMethod::Knapsack } else { PackingMethod::Greedy };
        let packed = pack(&list, &rules, &[], budget);
        prop_assert_eq!(packed.outcomes.len(), list.len());
        let inside: Vec<&Candidate> = list.iter().zip(&packed.outcomes)
            .filter(|(_, outcome)| **outcome == Outcome::Included).map(|(ranked, _)| &ranked.candidate).collect();
        let used: u32 = inside.iter().map(|candidate| candidate.tokens).sum();
        prop_assert_eq!(used, packed.used);
        prop_assert!(used <= budget);
        prop_assert!(inside.len() <= max_items as usize);
        prop_assert!(inside.iter().filter(|c| *c.artifact_type == *"bug").count() <= quota as usize);
        prop_assert!(inside.iter().all(|c| c.eligibility == Eligibility::Eligible));
        for outcome in &packed.outcomes {
            if let Outcome::Excluded { detail, .. } = outcome {
                prop_assert!(!detail.is_empty() && detail != "not considered");
            }
        }
        let trace = packed.trace;
        prop_assert_eq!(trace.always + trace.chosen + trace.filled, inside.len() as u32);
        // What is left out for the budget does not fit what is left of it.
        for (ranked, outcome) in list.iter().zip(&packed.outcomes) {
            if matches!(outcome, Outcome::Excluded { reason: Reason::Budget, .. }) {
                prop_assert!(ranked.candidate.tokens > budget - used);
            }
        }
    }

    #[test]
    fn knapsack_without_rules_is_the_best_set(
        sizes in prop::collection::vec((1_u32..50, 1_u32..40), 0..10),
        budget in 0_u32..150,
    ) {
        let mut list: Vec<Ranked> =
            (0..).zip(&sizes).map(|(number, (total, tokens))| ranked(number, *total, *tokens)).collect();
        list.sort_by_key(Ranked::order);
        let mut rules = rules();
        rules.packing = PackingMethod::Knapsack;
        let packed = pack(&list, &rules, &[], budget);
        let value: u32 = list.iter().zip(&packed.outcomes)
            .filter(|(_, outcome)| **outcome == Outcome::Included).map(|(ranked, _)| ranked.scores.total).sum();
        let best = (0..1_u32 << list.len()).filter_map(|set| {
            let inside = || list.iter().enumerate().filter(move |(place, _)| set >> place & 1 == 1);
            let tokens: u32 = inside().map(|(_, ranked)| ranked.candidate.tokens).sum();
            (tokens <= budget).then(|| inside().map(|(_, ranked)| ranked.scores.total).sum::<u32>())
        }).max();
        prop_assert_eq!(Some(value), best);
    }
}
