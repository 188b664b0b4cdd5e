//! What a policy says, as far as retrieval follows it.

/// How the lexical and the dense signal become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FusionMethod {
    /// The weighted mean of both scores.
    WeightedSum,
    /// Sum of weight / (k + rank).
    ReciprocalRank,
    /// The better of both weighted scores.
    MaxScore,
}

impl FusionMethod {
    /// The word used in packs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WeightedSum => "weighted_sum",
            Self::ReciprocalRank => "reciprocal_rank",
            Self::MaxScore => "max_score",
        }
    }

    /// Reads the word used in packs.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::WeightedSum, Self::ReciprocalRank, Self::MaxScore]
            .into_iter()
            .find(|method| method.as_str() == word)
    }
}

/// How a budget is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackingMethod {
    /// Best first, skipping what does not fit.
    Greedy,
    /// The set with the greatest total score that fits.
    Knapsack,
}

impl PackingMethod {
    /// The word used in packs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Greedy => "greedy",
            Self::Knapsack => "knapsack",
        }
    }
}

/// How much each signal counts, in millionths, each 0 to 10 million.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weights {
    /// Match by words.
    pub lexical: u32,
    /// Match by meaning.
    pub dense: u32,
    /// Youth.
    pub recency: u32,
    /// The importance its writer gave it.
    pub importance: u32,
    /// Whether it is pinned.
    pub pin: u32,
}

/// What a policy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// How much each signal counts.
    pub weights: Weights,
    /// How lexical and dense become one.
    pub fusion: FusionMethod,
    /// The constant of reciprocal rank fusion, at least 1.
    pub rrf_k: u32,
    /// How many of the best by each signal, 1 to 1,000.
    pub candidates: u32,
    /// Millionths per day.
    pub recency_lambda: u32,
    /// Empty takes every type.
    pub artifact_types: Vec<String>,
    /// At least one of these; empty takes all.
    pub tags_any: Vec<String>,
    /// At most this old; 0 takes any age.
    pub time_window_days: u32,
    /// In millionths.
    pub min_importance: u32,
    /// Pack pinned events first.
    pub always_pinned: bool,
    /// Pack these records first.
    pub always_records: Vec<String>,
    /// Pack events with any of these tags first.
    pub always_tags: Vec<String>,
    /// Type and most items of it.
    pub quotas: Vec<(String, u32)>,
    /// How a budget is filled.
    pub packing: PackingMethod,
    /// Most items.
    pub max_items: u32,
    /// Most passages of one event.
    pub max_per_event: u32,
    /// Least score, in millionths.
    pub min_score: u32,
    /// Used when a request names none.
    pub budget_tokens: u32,
}

/// One version of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its id.
    pub id: String,
    /// Its version, from 1.
    pub version: u64,
    /// Over its rules.
    pub hash: String,
    /// The kinds of work it serves when a request names no policy.
    pub tasks: Vec<String>,
    /// What it says.
    pub rules: Rules,
}

impl Policy {
    /// Why this one was taken for a task, for people; `named`: the request asked for it by its id.
    pub fn reason(&self, named: bool, task: &str) -> String {
        if named {
            return "named by the request".into();
        }
        if task.is_empty() {
            return format!("no task and no policy is named; used `{}`", self.id);
        }
        let shown = task.escape_debug();
        if self.tasks.iter().any(|known| known == task) {
            return format!("it names task `{shown}`");
        }
        format!("no policy names task `{shown}`; used `{}`", self.id)
    }
}
