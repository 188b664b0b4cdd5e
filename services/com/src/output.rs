//! What people and machines see.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use prost::{Message, Name};

/// Writes a line to standard output. A reader that has gone away ends the program quietly.
pub fn line(text: &str) {
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// Writes a value as one line of JSON.
pub fn json(value: &serde_json::Value) {
    line(&value.to_string());
}

/// Writes a message as one line of JSON, as the JSON surface would.
pub fn message<M: Message + Name>(message: &M) -> anyhow::Result<()> {
    json(&commonplace_proto::to_json(message)?);
    Ok(())
}

/// Things in a list: for people a table, written when it is whole; for machines each as soon as it is there.
pub struct Listing {
    json: bool,
    rows: Vec<Vec<String>>,
}

impl Listing {
    /// Nothing yet.
    pub fn new(json: bool, head: &[&str]) -> Self {
        let head = head.iter().map(|word| (*word).to_owned()).collect();
        Self {
            json,
            rows: vec![head],
        }
    }

    /// One more thing; `row` says it in the words of the table.
    pub fn add<M: Message + Name>(
        &mut self,
        thing: &M,
        row: impl FnOnce(&M) -> Vec<String>,
    ) -> anyhow::Result<()> {
        if self.json {
            return message(thing);
        }
        self.rows.push(row(thing));
        Ok(())
    }

    /// There are no more.
    pub fn end(self) {
        match self.rows.len() {
            _ if self.json => {}
            1 => line("none"),
            _ => table(&self.rows),
        }
    }
}

/// Writes an error to standard error.
pub fn complain(text: &str) {
    let _ = writeln!(
        std::io::stderr(),
        "{} {text}",
        paint_for(&std::io::stderr(), RED, "error:")
    );
}

/// Writes a remark to standard error.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Terminal colours.
pub const RED: &str = "31;1";
/// For what is neither well nor wrong.
pub const YELLOW: &str = "33";
/// For what is well.
pub const GREEN: &str = "32";
/// For what matters less.
pub const DIM: &str = "2";
/// For headings.
pub const BOLD: &str = "1";
/// For names.
pub const CYAN: &str = "36";

/// The text in a colour, when standard output is a terminal that wants colours.
pub fn paint(colour: &str, text: &str) -> String {
    paint_for(&std::io::stdout(), colour, text)
}

fn paint_for(stream: &impl IsTerminal, colour: &str, text: &str) -> String {
    if stream.is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        return format!("\x1b[{colour}m{text}\x1b[0m");
    }
    text.to_owned()
}

/// A bar of eight cells for a share of 0 to 1.
pub fn bar(share: f64) -> String {
    const CELLS: usize = 8;
    let eighths = (share.clamp(0.0, 1.0) * (CELLS * 8) as f64).round() as usize;
    let part = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    let mut text = "█".repeat(eighths / 8) + part;
    let used = eighths / 8 + usize::from(!eighths.is_multiple_of(8));
    text.push_str(&"░".repeat(CELLS - used));
    text
}

/// The text cut to so many characters, with an ellipsis where it was cut, on one line.
pub fn short(text: &str, characters: usize) -> String {
    let clean: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let clean = clean.trim();
    if clean.chars().count() <= characters {
        return clean.to_owned();
    }
    clean
        .chars()
        .take(characters.saturating_sub(1))
        .chain(['…'])
        .collect()
}

/// Rows as aligned columns; the first row is the heading.
pub fn table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for (place, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count())))
            .collect();
        let text = cells.join("  ");
        line(&if place == 0 {
            paint(DIM, text.trim_end())
        } else {
            text.trim_end().to_owned()
        });
    }
}

/// A progress bar on standard error; invisible when that is no terminal.
pub fn progress(total: u64, what: &str, bytes: bool) -> ProgressBar {
    let bar = ProgressBar::new(total);
    let counts = if bytes {
        "{bytes}/{total_bytes}"
    } else {
        "{pos}/{len}"
    };
    let template = format!("{{prefix:>12}} [{{bar:30}}] {counts} {{msg}} {{eta:>4}}");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style.progress_chars("█▓░"));
    }
    bar.set_prefix(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// Times as `2026-11-21 08:00`; empty when absent.
pub fn time(time: Option<&prost_types::Timestamp>) -> String {
    let text = time
        .and_then(|t| commonplace_types::Timestamp::from_seconds(t.seconds, t.nanos).ok())
        .map(|t| t.to_string());
    text.map_or_else(String::new, |text| text[..16].replace('T', " "))
}

/// The first digits of a hash, enough for people.
pub fn hash(text: &str) -> String {
    text.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_always_eight_cells() {
        for share in [-1.0, 0.0, 0.01, 0.5, 0.99, 1.0, 7.0, f64::NAN] {
            assert_eq!(bar(share).chars().count(), 8, "{share}");
        }
        assert_eq!(bar(1.0), "████████");
    }

    #[test]
    fn long_text_is_cut_by_characters() {
        assert_eq!(short("äöü\nx", 4), "äöü…");
        assert_eq!(short("a\tb", 9), "a b");
    }
}
