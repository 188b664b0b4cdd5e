//! A scan by bounds gives what comparing everything gives, bit for bit.

use proptest::prelude::*;

use super::*;

/// Vectors that lie close together, so that bounds leave many of them open, with repeats among them.
fn vectors() -> impl Strategy<Value = Vec<Codes>> {
    let noise = prop::collection::vec(-40i8..40, DIMENSION);
    let base = prop::collection::vec(-80i8..80, DIMENSION);
    let picks = prop::collection::vec(0usize..12, 0..400);
    (base, prop::collection::vec(noise, 12), picks).prop_map(|(base, noises, picks)| {
        let vector = |pick: usize| std::array::from_fn(|place| base[place] + noises[pick][place]);
        picks.into_iter().map(vector).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn bounds_hold_and_scores_are_the_cosines(
        rows in vectors(),
        query in prop::collection::vec(any::<i8>(), DIMENSION),
        wanted in any::<u64>(),
        start in 0usize..3,
    ) {
        let codes: Codes = query.try_into().unwrap();
        let query = QueryVector::new(codes);
        let mut vectors = Vectors::default();
        rows.iter().for_each(|codes| vectors.push(*codes));
        let start = (start * 64).min(rows.len());
        let mut next = start;
        vectors.scan(&query, start..rows.len(), |run| {
            assert_eq!(run.first as usize, next);
            for (place, highest) in run.highest.chunks(64).enumerate() {
                let from = run.first + 64 * place as u32;
                let wanted = wanted & u64::MAX >> (64 - highest.len());
                let mut scores = [f64::NAN; 64];
                run.scores(from, wanted, &mut scores);
                for (bit, highest) in highest.iter().enumerate() {
                    let row = from as usize + bit;
                    let exact = f64::from(dot(&codes, &rows[row])) * inverse_norm(&codes) * inverse_norm(&rows[row]);
                    assert!(*highest >= exact, "{highest} is below {exact}");
                    if wanted >> bit & 1 == 1 {
                        assert_eq!(scores[bit].to_bits(), exact.to_bits());
                    }
                    assert_eq!(vectors.score(row as u32, &query).unwrap(), Some(exact));
                }
            }
            next += run.highest.len();
        });
        prop_assert_eq!(next, rows.len());
        for (row, codes) in rows.iter().enumerate() {
            prop_assert_eq!(&vectors.codes(row), codes);
        }
    }
}
