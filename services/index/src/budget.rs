//! Counts what a text costs in a language model's context.
//!
//! Packs are filled to a budget of tokens, so the count must be exact, the same on every machine
//! and named: the byte-pair vocabulary o200k_base, counted in one pass over the text. The count
//! belongs to a row when it is indexed; a search never counts. What a prompt template adds around
//! an item is the caller's to add.

/// Names the tokenizer and the version of what surrounds it.
pub const TOKENIZER: &str = "o200k_base/1";

/// Stands between title and text where an item is shown.
pub const TITLE_SEPARATOR: &str = "\n";

/// Tokens of `text`; 0 for an empty one.
///
/// The first call unpacks the vocabulary; see [`warm`].
pub fn count(text: &str) -> u32 {
    u32::try_from(bpe_openai::o200k_base().count(text)).unwrap_or(u32::MAX)
}

/// Tokens of an item: its title on a line of its own, then its text; no line for an empty title.
///
/// Title and text are counted apart, so that an event's title is counted once for all its passages.
pub fn item_tokens(title: &str, text: &str) -> u32 {
    if title.is_empty() {
        return count(text);
    }
    count(title)
        .saturating_add(count(TITLE_SEPARATOR))
        .saturating_add(count(text))
}

/// Unpacks the vocabulary now instead of in the first count.
pub fn warm() {
    bpe_openai::o200k_base();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_the_published_vocabulary() {
        // Known encodings: "hello world" is [24912, 2375], "tiktoken is great!" is six tokens.
        assert_eq!(count(""), 0);
        assert_eq!(count("hello world"), 2);
        assert_eq!(count("tiktoken is great!"), 6);
    }

    #[test]
    fn an_item_costs_its_title_a_line_end_and_its_text() {
        assert_eq!(item_tokens("", "hello world"), 2);
        assert_eq!(item_tokens("hello world", "hello world"), 5);
        assert_eq!(item_tokens("hello world", ""), 3);
    }

    #[test]
    fn long_runs_are_counted_in_linear_time() {
        for unit in ["a", " ", "\n", " a", "0", "=", "é", "\u{4e2d}", "ab1_"] {
            let started = std::time::Instant::now();
            assert!(count(&unit.repeat(200_000 / unit.len())) > 0);
            // Quadratic work on 200 kB takes minutes; linear work a few milliseconds.
            assert!(
                started.elapsed().as_secs() < 20,
                "{unit:?} took {:?}",
                started.elapsed()
            );
        }
    }
}
