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

/// Gives `count` different texts of 1 to `longest` words, always the same.
pub fn texts(count: usize, longest: usize) -> Vec<String> {
    let mut state = 0x5eed_u64;
    let mut below = |bound: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let mut text = || {
        let words = 1 + below(longest);
        (0..words)
            .map(|_| WORDS[below(WORDS.len())])
            .collect::<Vec<_>>()
            .join(" ")
    };
    (0..count).map(|_| text()).collect()
}
