//! What retrieval counts.

use commonplace_telemetry::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::pack::Pack;

/// What a request for a pack got.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    /// `made`, `reused`, `empty` when nothing fitted the question.
    outcome: &'static str,
}

/// Where a text came from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Source {
    /// `memory` or `index`.
    from: &'static str,
}

/// Retrieval's counters. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Numbers {
    packs: Family<Labels, Counter>,
    texts: Family<Source, Counter>,
    efficiency: Histogram,
    tokens: Histogram,
}

impl Numbers {
    pub(crate) fn new() -> Self {
        Self {
            packs: Family::default(),
            texts: Family::default(),
            efficiency: Histogram::new((1..=10).map(|tenth| f64::from(tenth) / 10.0)),
            tokens: Histogram::new((6..=16).map(|power| f64::from(1_u32 << power))),
        }
    }

    pub(crate) fn register(&self, metrics: &Metrics) {
        metrics.register(|registry| {
            registry.register(
                "retrieval_packs",
                "Packs that were answered with: made, reused, or empty",
                self.packs.clone(),
            );
            registry.register(
                "retrieval_texts",
                "Texts of passages by where they came from: memory or index",
                self.texts.clone(),
            );
            registry.register(
                "retrieval_budget_efficiency_ratio",
                "Tokens used of the budget, of packs that hold something",
                self.efficiency.clone(),
            );
            registry.register(
                "retrieval_pack_tokens",
                "Tokens of packs that hold something",
                self.tokens.clone(),
            );
        });
    }

    /// So many texts came from memory, so many from the index.
    pub(crate) fn texts(&self, memory: usize, index: usize) {
        for (from, count) in [("memory", memory), ("index", index)] {
            self.texts
                .get_or_create(&Source { from })
                .inc_by(count as u64);
        }
    }

    /// A request was answered with a pack.
    pub(crate) fn answered(&self, pack: &Pack, reused: bool) {
        let outcome = match (reused, pack.items.is_empty()) {
            (_, true) => "empty",
            (true, false) => "reused",
            (false, false) => "made",
        };
        self.packs.get_or_create(&Labels { outcome }).inc();
        if !pack.items.is_empty() {
            let (used, budget) = (pack.used_tokens, pack.recipe.budget_tokens.max(1));
            self.efficiency.observe(f64::from(used) / f64::from(budget));
            self.tokens.observe(f64::from(used));
        }
    }
}
