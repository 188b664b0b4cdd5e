//! What a policy says, with every default filled in, and the canonical form that its hash is made of.

use std::fmt::Write as _;

use commonplace_types::{ArtifactType, Digest};

/// A fraction kept in millionths, so that it is the same on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millionths(u32);

impl Millionths {
    /// So many millionths.
    pub const fn new(count: u32) -> Self {
        Self(count)
    }

    /// The nearest number of millionths. `value`: 0 to 4,000.
    pub fn nearest(value: f64) -> Self {
        Self((value * 1e6).round() as u32)
    }

    /// As a fraction; the same bits on every machine.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1e6
    }
}

/// How the lexical and the dense signal become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FusionMethod {
    /// The weighted mean of both scores.
    #[default]
    WeightedSum,
    /// Sum of weight / (k + rank).
    ReciprocalRank,
    /// The better of both weighted scores.
    MaxScore,
}

impl FusionMethod {
    /// The word used in YAML.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WeightedSum => "weighted_sum",
            Self::ReciprocalRank => "reciprocal_rank",
            Self::MaxScore => "max_score",
        }
    }
}

/// How a budget is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PackingMethod {
    /// Best first, skipping what does not fit.
    #[default]
    Greedy,
    /// The set with the greatest total score that fits.
    Knapsack,
}

impl PackingMethod {
    /// The word used in YAML.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Greedy => "greedy",
            Self::Knapsack => "knapsack",
        }
    }
}

/// How much each signal counts, each 0 to 10.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weights {
    /// Match by words.
    pub lexical: Millionths,
    /// Match by meaning.
    pub dense: Millionths,
    /// Youth.
    pub recency: Millionths,
    /// The importance its writer gave it.
    pub importance: Millionths,
    /// Whether it is pinned.
    pub pin: Millionths,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            lexical: Millionths(670_000),
            dense: Millionths(330_000),
            recency: Millionths(0),
            importance: Millionths(0),
            pin: Millionths(0),
        }
    }
}

/// Which events may be candidates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filters {
    /// Sorted; empty takes every type.
    pub artifact_types: Vec<ArtifactType>,
    /// Sorted; at least one of these. Empty takes all.
    pub tags_any: Vec<String>,
    /// At most this old; 0 takes any age.
    pub time_window_days: u32,
    /// 0 to 1.
    pub min_importance: Millionths,
}

/// What is packed before anything else.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Always {
    /// Pinned events.
    pub pinned: bool,
    /// Sorted.
    pub record_ids: Vec<String>,
    /// Sorted; events with any of these.
    pub tags: Vec<String>,
}

/// At most so many items of a type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quota {
    /// The type.
    pub artifact_type: ArtifactType,
    /// 0 to 1,000.
    pub max_items: u32,
}

/// How a pack is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    /// Greedy or knapsack.
    pub method: PackingMethod,
    /// 1 to 1,000.
    pub max_items: u32,
    /// Passages of one event, 1 to 1,000.
    pub max_per_event: u32,
    /// 0 to 1.
    pub min_score: Millionths,
    /// Used when a request names none, 1 to 1,000,000.
    pub budget_tokens: u32,
}

impl Default for Packing {
    fn default() -> Self {
        Self {
            method: PackingMethod::Greedy,
            max_items: 40,
            max_per_event: 1,
            min_score: Millionths(0),
            budget_tokens: 4_000,
        }
    }
}

/// What a policy says, with every default filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// For people; at most 1,024 bytes.
    pub description: String,
    /// The kinds of work it serves, sorted.
    pub tasks: Vec<String>,
    /// How much each signal counts.
    pub weights: Weights,
    /// How lexical and dense become one.
    pub fusion: FusionMethod,
    /// The constant of reciprocal rank fusion, 1 to 1,000.
    pub rrf_k: u32,
    /// How many of the best by each signal, 1 to 1,000.
    pub candidates: u32,
    /// The recency signal is exp(-lambda * age in days); 0 to 10.
    pub recency_lambda: Millionths,
    /// Which events may be candidates.
    pub filters: Filters,
    /// What is packed before anything else.
    pub always_include: Always,
    /// Sorted by type, each type once.
    pub quotas: Vec<Quota>,
    /// How a pack is filled.
    pub packing: Packing,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            description: String::new(),
            tasks: Vec::new(),
            weights: Weights::default(),
            fusion: FusionMethod::default(),
            rrf_k: 60,
            candidates: 100,
            recency_lambda: Millionths(0),
            filters: Filters::default(),
            always_include: Always::default(),
            quotas: Vec::new(),
            packing: Packing::default(),
        }
    }
}

impl Rules {
    /// Canonical JSON (RFC 8785) of the rules: sorted keys, no spaces, fractions in millionths. Equal rules
    /// give equal bytes, however their YAML was written.
    pub fn canonical(&self) -> String {
        let always = &self.always_include;
        let filters = &self.filters;
        let packing = &self.packing;
        let weights = &self.weights;
        let types: Vec<&str> = filters
            .artifact_types
            .iter()
            .map(ArtifactType::as_str)
            .collect();
        let mut out = String::with_capacity(1_024);
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            concat!(
                r#"{{"always_include":{{"pinned":{},"record_ids":{},"tags":{}}},"candidates":{},"#,
                r#""description":{},"filters":{{"artifact_types":{},"min_importance":{},"tags_any":{},"#,
                r#""time_window_days":{}}},"fusion":"{}","packing":{{"budget_tokens":{},"#,
                r#""max_items":{},"max_per_event":{},"method":"{}","min_score":{}}},"quotas":{},"#,
                r#""recency_lambda":{},"rrf_k":{},"tasks":{},"weights":{{"dense":{},"importance":{},"#,
                r#""lexical":{},"pin":{},"recency":{}}}}}"#
            ),
            always.pinned,
            json_list(&always.record_ids),
            json_list(&always.tags),
            self.candidates,
            json_text(&self.description),
            json_list(&types),
            filters.min_importance.0,
            json_list(&filters.tags_any),
            filters.time_window_days,
            self.fusion.as_str(),
            packing.budget_tokens,
            packing.max_items,
            packing.max_per_event,
            packing.method.as_str(),
            packing.min_score.0,
            self.canonical_quotas(),
            self.recency_lambda.0,
            self.rrf_k,
            json_list(&self.tasks),
            weights.dense.0,
            weights.importance.0,
            weights.lexical.0,
            weights.pin.0,
            weights.recency.0,
        );
        out
    }

    fn canonical_quotas(&self) -> String {
        let quotas: Vec<String> = self
            .quotas
            .iter()
            .map(|quota| {
                let kind = json_text(quota.artifact_type.as_str());
                format!(
                    r#"{{"artifact_type":{kind},"max_items":{}}}"#,
                    quota.max_items
                )
            })
            .collect();
        format!("[{}]", quotas.join(","))
    }

    /// `sha256:` and 64 hex digits of the canonical form.
    pub fn hash(&self) -> String {
        format!("sha256:{}", Digest::of(&[self.canonical().as_bytes()]))
    }
}

fn json_text(text: &str) -> String {
    // serde_json escapes strings exactly as RFC 8785 asks for.
    serde_json::Value::from(text).to_string()
}

fn json_list<T: AsRef<str>>(texts: &[T]) -> String {
    let parts: Vec<String> = texts.iter().map(|text| json_text(text.as_ref())).collect();
    format!("[{}]", parts.join(","))
}
