//! The policies shipped with the program, each version 1 of its id.

use commonplace_types::PolicyId;

use crate::catalog::Version;
use crate::error::PolicyError;

/// The policy used where none is named.
pub const GENERAL: &str = "general";

const SOURCES: [(&str, &str); 7] = [
    (GENERAL, include_str!("../policies/general.yaml")),
    (
        "qa_code_review_py",
        include_str!("../policies/qa_code_review_py.yaml"),
    ),
    (
        "qa_flaky_triage",
        include_str!("../policies/qa_flaky_triage.yaml"),
    ),
    (
        "qa_regression",
        include_str!("../policies/qa_regression.yaml"),
    ),
    (
        "qa_root_cause",
        include_str!("../policies/qa_root_cause.yaml"),
    ),
    ("qa_smoke", include_str!("../policies/qa_smoke.yaml")),
    ("qa_test_gen", include_str!("../policies/qa_test_gen.yaml")),
];

/// Every shipped policy, sorted by id.
pub(crate) fn all() -> Result<Vec<Version>, PolicyError> {
    SOURCES
        .iter()
        .map(|(id, source)| Version::shipped(PolicyId::new(*id)?, source))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_policies_never_change() {
        let hashes: Vec<String> = all()
            .unwrap()
            .iter()
            .map(|version| format!("{} {}", version.id, &version.hash["sha256:".len()..][..16]))
            .collect();
        assert_eq!(
            hashes,
            [
                "general e9dbffa3fc7f8505",
                "qa_code_review_py 6d51fe7713d4fe62",
                "qa_flaky_triage b00574576be9cb9a",
                "qa_regression 3f503110a0aa5d4a",
                "qa_root_cause 0e1684a10abee9e6",
                "qa_smoke 37abde42b04b056c",
                "qa_test_gen fdf5210f1b084578",
            ]
        );
    }

    #[test]
    fn general_is_words_and_meaning_and_nothing_else() {
        let general = &all().unwrap()[0];
        let rules = &general.rules;
        assert_eq!(
            (rules.weights.lexical.as_f64(), rules.weights.dense.as_f64()),
            (0.67, 0.33)
        );
        assert_eq!(rules.weights, crate::rules::Weights::default());
        assert_eq!(rules.filters, crate::rules::Filters::default());
        assert_eq!(rules.always_include, crate::rules::Always::default());
        assert!(rules.quotas.is_empty());
    }
}
