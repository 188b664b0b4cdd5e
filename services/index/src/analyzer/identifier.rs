//! Cuts an identifier into its parts.

/// What a character is to an identifier.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Lower,
    Upper,
    Digit,
    Underscore,
}

fn class(character: char) -> Class {
    match character {
        '_' => Class::Underscore,
        'a'..='z' => Class::Lower,
        'A'..='Z' => Class::Upper,
        '0'..='9' => Class::Digit,
        _ if character.is_uppercase() => Class::Upper,
        _ if character.is_numeric() => Class::Digit,
        // Letters without case, and marks, go on with what was before them.
        _ => Class::Lower,
    }
}

/// The parts of `word`, cut at underscores, between letters and digits, before a capital that
/// follows a small letter (`camel|Case`) and before the last capital of a run that a small letter
/// follows (`HTTP|Server`). A word without such places is its own single part.
pub fn parts(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches('_');
        if rest.is_empty() {
            return None;
        }
        let (part, after) = rest.split_at(part_end(rest));
        rest = after;
        Some(part)
    })
}

/// Where the first part of `word` ends; `word` does not begin with an underscore.
fn part_end(word: &str) -> usize {
    let mut classes = word
        .char_indices()
        .map(|(at, character)| (at, class(character)))
        .peekable();
    let Some((_, mut before)) = classes.next() else {
        return 0;
    };
    while let Some((at, current)) = classes.next() {
        let next = classes.peek().map(|(_, next)| *next);
        let cut = match (before, current) {
            (Class::Upper, Class::Upper) => next == Some(Class::Lower),
            (Class::Upper, Class::Lower) => false,
            _ => before != current,
        };
        if cut {
            return at;
        }
        before = current;
    }
    word.len()
}
