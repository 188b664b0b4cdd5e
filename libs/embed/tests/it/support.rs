//! Finding the model, and texts to embed.

use std::env;
use std::path::PathBuf;

use commonplace_embed::Model;

/// Gives the folder with the published model, or prints that the test is skipped.
pub fn model_folder() -> Option<PathBuf> {
    let cache = || {
        let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".cache"));
        let cache = env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(home)?;
        Some(cache.join("commonplace/models/all-MiniLM-L6-v2"))
    };
    let folder = env::var_os("COM_MODEL_DIR")
        .map(PathBuf::from)
        .or_else(cache)?;
    if folder.join("model.safetensors").is_file() && folder.join("tokenizer.json").is_file() {
        return Some(folder);
    }
    eprintln!(
        "SKIPPED: no model in {}; set COM_MODEL_DIR",
        folder.display()
    );
    None
}

/// Gives the loaded model, or prints that the test is skipped.
pub fn model() -> Option<Model> {
    Some(Model::load(&model_folder()?).unwrap())
}

const WORDS: &[&str] = &[
    "the",
    "index",
    "follows",
    "every",
    "branch",
    "of",
    "a",
    "journal",
    "and",
    "deploy",
    "failed",
    "because",
    "shard",
    "seven",
    "was",
    "slow",
    "we",
    "decided",
    "to",
    "roll",
    "back",
    "at",
    "10:45",
    "after",
    "p99",
    "latency",
    "rose",
    "above",
    "200ms;",
    "see",
    "INC-4711",
    "for",
    "details.",
    "fn",
    "main()",
    "{",
    "println!(\"{}\",",
    "x);",
    "}",
    "SELECT",
    "*",
    "FROM",
    "users",
    "WHERE",
    "id",
    "=",
    "42",
    "café",
    "naïve",
    "Straße",
    "東京",
    "データ",
    "привет",
    "мир",
    "🚀",
    "quickly",
    "photosynthesis",
    "guitar",
    "recipe",
    "with",
    "garlic",
    "cancer",
    "treatment",
    "football",
    "won",
    "3-2",
    "yesterday",
    "why",
    "does",
    "sky",
    "look",
    "blue?",
    "http://example.com/a/b?c=d",
    "src/lib.rs:120",
    "snake_case_name",
    "CamelCase",
];

const SUBJECTS: &[&str] = &[
    "the search index",
    "our payment service",
    "a failing unit test",
    "the release branch",
    "Dr. Nakamura",
    "an orbiting satellite",
    "def parse_header(line):",
    "the nightly backup",
    "her grandmother's soup",
    "java.lang.NullPointerException",
    "the café in Zürich",
    "the boundary layer",
    "kubectl rollout undo",
    "a heat exchanger",
    "the flaky login page",
];
const VERBS: &[&str] = &[
    "was rolled back after",
    "depends on",
    "returns None instead of",
    "cannot explain",
    "slowed down because of",
    "was replaced by",
    "increases with",
    "must never overwrite",
    "was first described in",
    "raises an error when reading",
    "tastes better than",
];
const OBJECTS: &[&str] = &[
    "the 2.4.1 upgrade",
    "supersonic flow over a wedge",
    "a missing database migration",
    "garlic and olive oil",
    "src/server/config.rs line 120",
    "the transaction log",
    "a 99th percentile latency of 350 ms",
    "two conflicting decisions",
    "an expired certificate",
    "the third symphony",
    "utf-8 encoded file names",
    "commit 9ac37c7",
    "the thread pool",
];

/// A small generator: the tests need variety, not quality.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

/// Gives `count` texts of 1 to `longest` unconnected words, always the same.
pub fn texts(count: usize, longest: usize) -> Vec<String> {
    let mut random = Random(0x5eed);
    let mut text = || {
        let words = 1 + random.below(longest);
        (0..words)
            .map(|_| random.pick(WORDS))
            .collect::<Vec<_>>()
            .join(" ")
    };
    (0..count).map(|_| text()).collect()
}

/// Gives `count` texts of one to four statements, always the same.
pub fn statements(count: usize) -> Vec<String> {
    let mut random = Random(0xfacade);
    let mut statement = || {
        [SUBJECTS, VERBS, OBJECTS]
            .map(|choices| random.pick(choices))
            .join(" ")
    };
    (0..count)
        .map(|index| {
            (0..=index % 4)
                .map(|_| statement())
                .collect::<Vec<_>>()
                .join(". ")
        })
        .collect()
}
