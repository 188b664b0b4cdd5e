//! The figures, as a table for people and as JSON for machines.

use std::path::Path;

use serde::Serialize;

/// One measured figure.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What it belongs to.
    pub group: String,
    /// What was measured.
    pub what: String,
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// The mark it is held against.
    pub budget: Option<f64>,
    /// Whether more is better.
    pub more_is_better: bool,
}

impl Row {
    /// How the figure stands to its mark: 1 or more is within it.
    fn ratio(&self) -> Option<f64> {
        let budget = self.budget?;
        Some(if self.more_is_better {
            self.value / budget
        } else {
            budget / self.value
        })
    }
}

/// All figures of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    machine: String,
    rows: Vec<Row>,
}

impl Report {
    /// An empty report that names the machine.
    pub fn new() -> Self {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let isa = commonplace_embed::Isa::best();
        Self {
            machine: format!(
                "{}, {cores} cores, {isa}",
                model.unwrap_or("unknown CPU").trim()
            ),
            rows: Vec::new(),
        }
    }

    /// Adds a figure of which less is better.
    pub fn less(
        &mut self,
        group: &str,
        what: &str,
        value: f64,
        unit: &'static str,
        budget: Option<f64>,
    ) {
        self.add(group, what, value, unit, budget, false);
    }

    /// Adds a figure of which more is better.
    pub fn more(
        &mut self,
        group: &str,
        what: &str,
        value: f64,
        unit: &'static str,
        budget: Option<f64>,
    ) {
        self.add(group, what, value, unit, budget, true);
    }

    fn add(
        &mut self,
        group: &str,
        what: &str,
        value: f64,
        unit: &'static str,
        budget: Option<f64>,
        more: bool,
    ) {
        let row = Row {
            group: group.into(),
            what: what.into(),
            value,
            unit,
            budget,
            more_is_better: more,
        };
        eprintln!("{}", line(&row));
        self.rows.push(row);
    }

    /// Prints the table.
    pub fn print(&self) {
        println!("\n{}\n", self.machine);
        println!(
            "{:<14} {:<46} {:>12} {:<10} {:>10} {:>7}",
            "group", "what", "measured", "unit", "budget", "ratio"
        );
        for row in &self.rows {
            println!("{}", line(row));
        }
        println!("\nratio: 1.00 or more is within the budget.");
    }

    /// Writes the JSON.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        std::fs::write(path, serde_json::to_string_pretty(self)? + "\n")?;
        println!("written to {}", path.display());
        Ok(())
    }
}

fn line(row: &Row) -> String {
    let number = |value: f64| match value.abs() {
        v if v >= 1_000.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    };
    let budget = row.budget.map(number).unwrap_or_default();
    let ratio = row
        .ratio()
        .map(|ratio| format!("{ratio:.2}"))
        .unwrap_or_default();
    format!(
        "{:<14} {:<46} {:>12} {:<10} {budget:>10} {ratio:>7}",
        row.group,
        row.what,
        number(row.value),
        row.unit
    )
}

/// Times in order, to ask shares of.
pub struct Times(Vec<f64>);

impl Times {
    /// From times in seconds, in any order.
    pub fn new(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        Self(seconds)
    }

    /// The time that a share of all does not exceed, in milliseconds.
    pub fn milliseconds(&self, share: f64) -> f64 {
        let place =
            ((self.0.len() as f64 * share).ceil() as usize).clamp(1, self.0.len().max(1)) - 1;
        self.0.get(place).map_or(f64::NAN, |seconds| seconds * 1e3)
    }
}
