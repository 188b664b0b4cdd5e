use proptest::prelude::*;

use super::*;
use crate::testing::candidate;

/// (lexical score, lexical rank, dense score, dense rank, eligible)
type Row = (f64, u32, Option<f64>, u32, bool);

fn candidates(rows: &[Row]) -> Vec<Candidate> {
    (0..)
        .zip(rows)
        .map(
            |(number, (lexical_score, lexical_rank, dense_score, dense_rank, eligible))| {
                Candidate {
                    lexical_score: *lexical_score,
                    lexical_rank: *lexical_rank,
                    dense_score: *dense_score,
                    dense_rank: *dense_rank,
                    eligibility: if *eligible {
                        Eligibility::Eligible
                    } else {
                        Eligibility::Filtered
                    },
                    ..candidate(number)
                }
            },
        )
        .collect()
}

fn fusion(method: FusionMethod) -> Fusion {
    Fusion {
        method,
        lexical_weight: 650_000,
        dense_weight: 350_000,
        rrf_k: 60,
        list_length: 3,
    }
}

#[test]
fn lexical_is_divided_by_the_top_and_dense_scaled_over_its_list() {
    let rows = [
        (10.0, 1, Some(0.2), 3, true),
        (5.0, 2, Some(0.8), 1, true),
        (0.0, 0, Some(0.5), 2, true),
        (0.0, 0, Some(0.1), 4, true),
        (20.0, 0, Some(0.9), 0, false),
        (2.5, 3, None, 0, true),
    ];
    let fused = fuse(&candidates(&rows), &fusion(FusionMethod::WeightedSum));
    let signals: Vec<(u32, u32)> = fused.iter().map(|f| (f.lexical, f.dense)).collect();
    assert_eq!(
        signals,
        [
            (ONE, 0),
            (500_000, ONE),
            (0, 500_000),
            (0, 0),
            (ONE, ONE),
            (250_000, 0)
        ]
    );
    assert_eq!(fused[1].points, 650_000 * 500_000 + 350_000 * 1_000_000);
}

#[test]
fn reciprocal_rank_counts_in_whole_numbers() {
    let rows = [
        (1.0, 1, Some(0.9), 1, true),
        (0.5, 2, None, 0, true),
        (0.0, 0, None, 0, true),
    ];
    let fused = fuse(&candidates(&rows), &fusion(FusionMethod::ReciprocalRank));
    assert_eq!(
        fused[0].points,
        1_000_000 * 1_000_000,
        "first in both lists is the most there is"
    );
    let expected = {
        let part = |weight: u64, rank: u64| (weight << 32) / (60 + rank);
        let best = u128::from(part(650_000, 1) + part(350_000, 1));
        (1_000_000_u128 * 1_000_000 * u128::from(part(650_000, 2)) / best) as u64
    };
    assert_eq!(fused[1].points, expected);
    assert_eq!(fused[2].points, 0);
}

#[test]
fn a_signal_without_weight_takes_no_part() {
    let rows = [(4.0, 1, Some(0.9), 1, true), (2.0, 2, Some(0.1), 2, true)];
    for method in [
        FusionMethod::WeightedSum,
        FusionMethod::ReciprocalRank,
        FusionMethod::MaxScore,
    ] {
        let fusion = Fusion {
            dense_weight: 0,
            ..fusion(method)
        };
        let fused = fuse(&candidates(&rows), &fusion);
        assert_eq!(
            (fused[0].dense, fused[0].points),
            (0, 650_000_000_000),
            "{method:?}"
        );
        let none = fuse(
            &candidates(&rows),
            &Fusion {
                lexical_weight: 0,
                ..fusion
            },
        );
        assert!(none.iter().all(|fused| *fused == Fused::default()));
    }
}

#[test]
fn one_vector_or_many_equal_ones_are_all_the_best() {
    let rows = [
        (0.0, 0, Some(0.3), 1, true),
        (0.0, 0, Some(0.3), 2, true),
        (0.0, 0, Some(0.2), 0, true),
    ];
    let dense: Vec<u32> = fuse(&candidates(&rows), &fusion(FusionMethod::WeightedSum))
        .iter()
        .map(|fused| fused.dense)
        .collect();
    assert_eq!(dense, [ONE, ONE, 0]);
}

#[test]
fn what_is_no_number_counts_nothing() {
    let rows = [
        (f64::NAN, 1, Some(f64::NAN), 1, true),
        (1.0, 2, Some(0.5), 2, true),
    ];
    let fused = fuse(&candidates(&rows), &fusion(FusionMethod::WeightedSum));
    assert_eq!((fused[0].lexical, fused[0].dense), (0, 0));
}

fn row() -> impl Strategy<Value = Row> {
    (
        0.0..30.0_f64,
        0_u32..8,
        prop::option::of(-1.0..1.0_f64),
        0_u32..8,
        any::<bool>(),
    )
}

/// The weighted sum as its definition says, in floating point.
fn naive(rows: &[Row], of: usize) -> f64 {
    let eligible: Vec<&Row> = rows.iter().filter(|row| row.4).collect();
    let top = eligible.iter().map(|row| row.0).fold(0.0, f64::max);
    let list: Vec<f64> = eligible
        .iter()
        .filter(|row| (1..=3).contains(&row.3))
        .filter_map(|row| row.2)
        .collect();
    let worst = list.iter().copied().fold(f64::INFINITY, f64::min);
    let best = list.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let lexical = if top > 0.0 {
        (rows[of].0 / top).min(1.0)
    } else {
        0.0
    };
    let dense = match rows[of].2 {
        Some(score) if best > worst => ((score - worst) / (best - worst)).clamp(0.0, 1.0),
        Some(score) if score >= best => 1.0,
        _ => 0.0,
    };
    0.65 * lexical + 0.35 * dense
}

proptest! {
    #[test]
    fn the_sum_is_what_its_definition_says(rows in prop::collection::vec(row(), 0..12)) {
        let fused = fuse(&candidates(&rows), &fusion(FusionMethod::WeightedSum));
        for (place, fused) in fused.iter().enumerate() {
            let points = fused.points as f64 / 1e12;
            prop_assert!((points - naive(&rows, place)).abs() < 2e-6, "{points}");
        }
    }

    #[test]
    fn the_order_of_arrival_changes_nothing(
        rows in prop::collection::vec(row(), 1..12),
        turn in 0_usize..12,
        method in prop::sample::select(vec![
            FusionMethod::WeightedSum, FusionMethod::ReciprocalRank, FusionMethod::MaxScore,
        ]),
    ) {
        let turn = turn % rows.len();
        let before = fuse(&candidates(&rows), &fusion(method));
        let mut turned = rows.clone();
        turned.rotate_left(turn);
        let mut after = fuse(&candidates(&turned), &fusion(method));
        after.rotate_right(turn);
        prop_assert_eq!(before, after);
    }

    #[test]
    fn points_never_exceed_both_weights(rows in prop::collection::vec(row(), 0..12)) {
        for method in [FusionMethod::WeightedSum, FusionMethod::ReciprocalRank, FusionMethod::MaxScore] {
            for fused in fuse(&candidates(&rows), &fusion(method)) {
                prop_assert!(fused.points <= 1_000_000_000_000);
            }
        }
    }
}
