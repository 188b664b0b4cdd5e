use proptest::prelude::*;

use super::*;

fn exact(left: &[i8], right: &[i8]) -> i32 {
    left.iter()
        .zip(right)
        .map(|(left, right)| i32::from(*left) * i32::from(*right))
        .sum()
}

fn check(query: &[i8], vectors: &[i8]) {
    let expected: Vec<i32> = vectors
        .chunks(DIMENSION)
        .map(|row| exact(query, row))
        .collect();
    for isa in Isa::supported() {
        let mut scores = vec![i32::MIN; expected.len()];
        scan_on(isa, query, vectors, &mut scores).unwrap();
        assert_eq!(scores, expected, "{isa}");
    }
}

proptest! {
    #[test]
    fn scans_are_exact(
        query in prop::collection::vec(any::<i8>(), DIMENSION),
        mut vectors in prop::collection::vec(any::<i8>(), 0..14 * DIMENSION),
    ) {
        vectors.truncate(vectors.len() / DIMENSION * DIMENSION);
        check(&query, &vectors);
    }

    #[test]
    fn dots_are_exact(bytes in prop::collection::vec(any::<i8>(), 2 * DIMENSION)) {
        let [left, right] = bytes.as_chunks::<DIMENSION>().0 else { panic!("two vectors") };
        prop_assert_eq!(dot(left, right), exact(left, right));
    }
}

#[test]
fn extremes_do_not_overflow() {
    for left in [i8::MIN, -127, 0, i8::MAX] {
        for right in [i8::MIN, -127, 0, i8::MAX] {
            check(&[left; DIMENSION], &[right; 5 * DIMENSION]);
        }
    }
}

#[test]
fn lengths_that_disagree_are_refused() {
    let cases = [
        (383, 384, 1, "query has 383 components, expected 384"),
        (
            384,
            383,
            1,
            "vectors have 383 components, expected 384 for each of 1 scores",
        ),
        (
            384,
            385,
            1,
            "vectors have 385 components, expected 384 for each of 1 scores",
        ),
        (
            384,
            768,
            1,
            "vectors have 768 components, expected 384 for each of 1 scores",
        ),
    ];
    for (query, vectors, rows, expected) in cases {
        let mut scores = vec![7; rows];
        let error = scan(&vec![1; query], &vec![1; vectors], &mut scores).unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), scores),
            (expected, vec![7; rows])
        );
    }
}
