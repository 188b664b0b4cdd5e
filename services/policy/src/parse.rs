//! From YAML to [`Rules`]: every key known, every value of its type and within its bounds.
//!
//! The first thing wrong is reported with its line, its key (`packing.max_items`) and what was expected.

use commonplace_types::ArtifactType;

use crate::rules::{
    Always, Filters, FusionMethod, Millionths, Packing, PackingMethod, Quota, Rules, Weights,
};
use crate::yaml::{self, Node, Value};

/// Longest source, in bytes.
pub const SOURCE_BYTES: usize = 64 << 10;
const DESCRIPTION_BYTES: usize = 1_024;
const LIST_ENTRIES: usize = 64;
const TABLE_ENTRIES: usize = 32;

/// Where a source is wrong and what was expected there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {}{problem}", self.key_prefix())]
pub struct Problem {
    /// From 1; 0 when the whole source is meant.
    pub line: u64,
    /// For example `weights.lexical` or `quotas[1].max_items`; empty when the source is not YAML.
    pub key: String,
    /// What was expected and what was found.
    pub problem: String,
}

impl Problem {
    fn key_prefix(&self) -> String {
        if self.key.is_empty() {
            return String::new();
        }
        format!("`{}`: ", self.key)
    }
}

/// Reads a policy's YAML. Error: the first thing wrong, by line, key and expectation.
pub fn rules(source: &str) -> Result<Rules, Problem> {
    if source.len() > SOURCE_BYTES {
        let problem = format!(
            "expected at most {SOURCE_BYTES} bytes, found {}",
            source.len()
        );
        return Err(Problem {
            line: 0,
            key: "source".into(),
            problem,
        });
    }
    let root = yaml::parse(source).map_err(|malformed| Problem {
        line: malformed.line,
        key: String::new(),
        problem: malformed.problem,
    })?;
    let mut table = Table::open(Place::root(), root)?;
    let defaults = Rules::default();
    let rules = Rules {
        description: table.read("description", defaults.description, |place, node| {
            place.text(node, DESCRIPTION_BYTES, true)
        })?,
        tasks: table.read("tasks", defaults.tasks, read_tasks)?,
        weights: table.read("weights", defaults.weights, read_weights)?,
        fusion: table.read("fusion", defaults.fusion, read_fusion)?,
        rrf_k: table.read("rrf_k", defaults.rrf_k, |p, n| p.whole(n, 1, 1_000))?,
        candidates: table.read("candidates", defaults.candidates, |p, n| {
            p.whole(n, 1, 1_000)
        })?,
        recency_lambda: table.read("recency_lambda", defaults.recency_lambda, |p, n| {
            p.fraction(n, 10)
        })?,
        filters: table.read("filters", defaults.filters, read_filters)?,
        always_include: table.read("always_include", defaults.always_include, read_always)?,
        quotas: table.read("quotas", defaults.quotas, read_quotas)?,
        packing: table.read("packing", defaults.packing, read_packing)?,
    };
    table.close()?;
    Ok(rules)
}

fn read_tasks(place: &Place, node: Node) -> Result<Vec<String>, Problem> {
    let tasks = place.list(node, TABLE_ENTRIES, |place, node| {
        let line = node.line;
        let task = place.text(node, 64, false)?;
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if task.bytes().all(allowed) {
            return Ok(task);
        }
        Err(place.wrong(
            line,
            format!(
                "expected a word of a-z, 0-9 and `_`, found `{}`",
                task.escape_debug()
            ),
        ))
    })?;
    Ok(sorted(tasks))
}

fn read_weights(place: &Place, node: Node) -> Result<Weights, Problem> {
    let line = node.line;
    let mut table = Table::open(place.clone(), node)?;
    let defaults = Weights::default();
    let mut weight =
        |key, default| table.read(key, default, |place, node| place.fraction(node, 10));
    let weights = Weights {
        lexical: weight("lexical", defaults.lexical)?,
        dense: weight("dense", defaults.dense)?,
        recency: weight("recency", defaults.recency)?,
        importance: weight("importance", defaults.importance)?,
        pin: weight("pin", defaults.pin)?,
    };
    table.close()?;
    let none = Millionths::default();
    let all = [
        weights.lexical,
        weights.dense,
        weights.recency,
        weights.importance,
        weights.pin,
    ];
    if all.iter().all(|weight| *weight == none) {
        return Err(place.wrong(
            line,
            "expected at least one weight above 0, found none".into(),
        ));
    }
    Ok(weights)
}

fn read_fusion(place: &Place, node: Node) -> Result<FusionMethod, Problem> {
    use FusionMethod::{MaxScore, ReciprocalRank, WeightedSum};
    let all = [WeightedSum, ReciprocalRank, MaxScore];
    place.choice(node, &all.map(|method| (method.as_str(), method)))
}

fn read_filters(place: &Place, node: Node) -> Result<Filters, Problem> {
    let mut table = Table::open(place.clone(), node)?;
    let filters = Filters {
        artifact_types: table.read("artifact_types", Vec::new(), |place, node| {
            Ok(sorted(place.list(node, TABLE_ENTRIES, read_type)?))
        })?,
        tags_any: table.read("tags_any", Vec::new(), |p, n| p.texts(n, 128))?,
        time_window_days: table.read("time_window_days", 0, |p, n| p.whole(n, 0, 36_500))?,
        min_importance: table.read("min_importance", Millionths::default(), |p, n| {
            p.fraction(n, 1)
        })?,
    };
    table.close()?;
    Ok(filters)
}

fn read_always(place: &Place, node: Node) -> Result<Always, Problem> {
    let mut table = Table::open(place.clone(), node)?;
    let always = Always {
        pinned: table.read("pinned", false, |place, node| place.flag(node))?,
        record_ids: table.read("record_ids", Vec::new(), |p, n| p.texts(n, 512))?,
        tags: table.read("tags", Vec::new(), |p, n| p.texts(n, 128))?,
    };
    table.close()?;
    Ok(always)
}

fn read_quotas(place: &Place, node: Node) -> Result<Vec<Quota>, Problem> {
    let mut seen: Vec<ArtifactType> = Vec::new();
    let mut quotas = place.list(node, TABLE_ENTRIES, |place, node| {
        let line = node.line;
        let mut table = Table::open(place.clone(), node)?;
        let kind_line = table.line_of("artifact_type").unwrap_or(line);
        let quota = Quota {
            artifact_type: table.need("artifact_type", read_type)?,
            max_items: table.need("max_items", |p, n| p.whole(n, 0, 1_000))?,
        };
        table.close()?;
        if seen.contains(&quota.artifact_type) {
            let problem = format!(
                "expected each type once, found `{}` again",
                quota.artifact_type
            );
            return Err(place.under("artifact_type").wrong(kind_line, problem));
        }
        seen.push(quota.artifact_type.clone());
        Ok(quota)
    })?;
    quotas.sort();
    Ok(quotas)
}

fn read_packing(place: &Place, node: Node) -> Result<Packing, Problem> {
    use PackingMethod::{Greedy, Knapsack};
    let mut table = Table::open(place.clone(), node)?;
    let defaults = Packing::default();
    let packing = Packing {
        method: table.read("method", defaults.method, |place, node| {
            place.choice(
                node,
                &[Greedy, Knapsack].map(|method| (method.as_str(), method)),
            )
        })?,
        max_items: table.read("max_items", defaults.max_items, |p, n| p.whole(n, 1, 1_000))?,
        max_per_event: table.read("max_per_event", defaults.max_per_event, |p, n| {
            p.whole(n, 1, 1_000)
        })?,
        min_score: table.read("min_score", defaults.min_score, |p, n| p.fraction(n, 1))?,
        budget_tokens: table.read("budget_tokens", defaults.budget_tokens, |p, n| {
            p.whole(n, 1, 1_000_000)
        })?,
    };
    table.close()?;
    Ok(packing)
}

fn read_type(place: &Place, node: Node) -> Result<ArtifactType, Problem> {
    let line = node.line;
    let text = place.text(node, 32, false)?;
    ArtifactType::new(text).map_err(|invalid| place.wrong(line, invalid.problem))
}

fn sorted<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    list.sort();
    list.dedup();
    list
}

/// Where in the source we are, as a dotted key.
#[derive(Debug, Clone)]
struct Place(String);

impl Place {
    fn root() -> Self {
        Self(String::new())
    }

    fn under(&self, key: &str) -> Self {
        if self.0.is_empty() {
            return Self(key.into());
        }
        Self(format!("{}.{key}", self.0))
    }

    fn at(&self, position: usize) -> Self {
        Self(format!("{}[{position}]", self.0))
    }

    fn wrong(&self, line: u64, problem: String) -> Problem {
        Problem {
            line,
            key: self.0.clone(),
            problem,
        }
    }

    fn unexpected(&self, node: &Node, expected: &str) -> Problem {
        self.wrong(
            node.line,
            format!("expected {expected}, found {}", node.value.describe()),
        )
    }

    fn flag(&self, node: Node) -> Result<bool, Problem> {
        match node.value {
            Value::Flag(flag) => Ok(flag),
            _ => Err(self.unexpected(&node, "`true` or `false`")),
        }
    }

    fn whole(&self, node: Node, least: u32, most: u32) -> Result<u32, Problem> {
        match node.value {
            Value::Number(number)
                if number.fract() == 0.0
                    && (f64::from(least)..=f64::from(most)).contains(&number) =>
            {
                Ok(number as u32)
            }
            _ => Err(self.unexpected(&node, &format!("a whole number from {least} to {most}"))),
        }
    }

    fn fraction(&self, node: Node, most: u32) -> Result<Millionths, Problem> {
        match node.value {
            Value::Number(number) if (0.0..=f64::from(most)).contains(&number) => {
                Ok(Millionths::nearest(number))
            }
            _ => Err(self.unexpected(&node, &format!("a number from 0 to {most}"))),
        }
    }

    fn text(&self, node: Node, most: usize, may_be_empty: bool) -> Result<String, Problem> {
        let least = usize::from(!may_be_empty);
        match node.value {
            Value::Text(text) if (least..=most).contains(&text.len()) => Ok(text),
            _ => Err(self.unexpected(&node, &format!("a text of {least} to {most} bytes"))),
        }
    }

    fn choice<T: Copy>(&self, node: Node, choices: &[(&str, T)]) -> Result<T, Problem> {
        let chosen = match &node.value {
            Value::Text(text) => choices.iter().find(|(word, _)| word == text),
            _ => None,
        };
        let words: Vec<String> = choices
            .iter()
            .map(|(word, _)| format!("`{word}`"))
            .collect();
        chosen
            .map(|(_, choice)| *choice)
            .ok_or_else(|| self.unexpected(&node, &words.join(" or ")))
    }

    fn list<T>(
        &self,
        node: Node,
        most: usize,
        mut read: impl FnMut(&Self, Node) -> Result<T, Problem>,
    ) -> Result<Vec<T>, Problem> {
        match node.value {
            Value::List(items) if items.len() <= most => items
                .into_iter()
                .enumerate()
                .map(|(position, item)| read(&self.at(position), item))
                .collect(),
            Value::List(items) => {
                let problem = format!("expected at most {most} entries, found {}", items.len());
                Err(self.wrong(node.line, problem))
            }
            _ => Err(self.unexpected(&node, "a list")),
        }
    }

    fn texts(&self, node: Node, most: usize) -> Result<Vec<String>, Problem> {
        let texts = self.list(node, LIST_ENTRIES, |place, node| {
            place.text(node, most, false)
        })?;
        Ok(sorted(texts))
    }
}

/// A table whose keys are taken out one by one; what is left at the end is unknown.
struct Table {
    place: Place,
    line: u64,
    entries: Vec<(String, u64, Node)>,
    known: Vec<&'static str>,
}

impl Table {
    fn open(place: Place, node: Node) -> Result<Self, Problem> {
        match node.value {
            Value::Table(entries) => Ok(Self {
                place,
                line: node.line,
                entries,
                known: Vec::new(),
            }),
            _ => Err(place.unexpected(&node, "a table of keys and values")),
        }
    }

    fn line_of(&self, key: &str) -> Option<u64> {
        self.entries
            .iter()
            .find(|(name, ..)| name == key)
            .map(|(_, line, _)| *line)
    }

    fn take(&mut self, key: &'static str) -> Option<Node> {
        self.known.push(key);
        let found = self.entries.iter().position(|(name, ..)| name == key)?;
        Some(self.entries.remove(found).2)
    }

    /// The value of a key, or the default when the key is absent.
    fn read<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Place, Node) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        match self.take(key) {
            Some(node) => read(&self.place.under(key), node),
            None => Ok(default),
        }
    }

    fn need<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Place, Node) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        match self.take(key) {
            Some(node) => read(&self.place.under(key), node),
            None => Err(self
                .place
                .wrong(self.line, format!("expected the key `{key}`, found none"))),
        }
    }

    /// Error: a key that nobody took.
    fn close(self) -> Result<(), Problem> {
        let Some((key, line, _)) = self.entries.first() else {
            return Ok(());
        };
        let known: Vec<String> = self.known.iter().map(|key| format!("`{key}`")).collect();
        let problem = format!("unknown key, expected one of {}", known.join(", "));
        let shown = key.chars().take(64).collect::<String>();
        Err(self.place.under(&shown).wrong(*line, problem))
    }
}

#[cfg(test)]
mod tests;
