//! How deep a policy may be, judged before it is parsed.
//!
//! Parsing, checking, evaluating and forgetting an expression take the stack as deep as the expression is. One that
//! is deep enough would end the process, for all tenants. So brackets that stand in each other are counted, and the
//! operators and words that make a chain of a statement. Left out: what a policy means, which the parser tells.

/// Deepest nesting of brackets, and most `if` in a statement.
const DEPTH: usize = 32;
/// Most operators in a statement.
const OPERATORS: usize = 128;

/// Words that join expressions as operators do.
const JOINING: [&str; 9] = [
    "has", "like", "in", "is", "then", "else", "when", "unless", "if",
];

/// Error: what of the source is too much, and how much is allowed.
pub(super) fn check(source: &str) -> Result<(), String> {
    let (mut depth, mut operators, mut branches) = (0_usize, 0, 0);
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let (length, kind) = piece(rest, first);
        match kind {
            Piece::Opens => depth += 1,
            Piece::Closes => depth = depth.saturating_sub(1),
            Piece::Ends => (operators, branches) = (0, 0),
            Piece::Joins => operators += 1,
            Piece::Branches => branches += 1,
            Piece::Other => {}
        }
        if depth > DEPTH || branches > DEPTH {
            return Err(format!(
                "expected at most {DEPTH} brackets in each other, and at most {DEPTH} `if` in a statement"
            ));
        }
        if operators > OPERATORS {
            return Err(format!(
                "expected at most {OPERATORS} operators in a statement; a set, or another statement, takes more"
            ));
        }
        rest = &rest[length..];
    }
    Ok(())
}

enum Piece {
    Opens,
    Closes,
    /// Ends a statement.
    Ends,
    Joins,
    Branches,
    Other,
}

/// The first piece of a text that begins with `first`: its length in bytes, and what it is. Texts and comments are
/// one piece.
fn piece(text: &str, first: char) -> (usize, Piece) {
    let while_in = |fits: fn(char) -> bool| text.find(|c: char| !fits(c)).unwrap_or(text.len());
    match first {
        '"' => (text_length(text), Piece::Other),
        '/' if text.starts_with("//") => (text.find('\n').unwrap_or(text.len()), Piece::Other),
        '(' | '[' | '{' => (1, Piece::Opens),
        ')' | ']' | '}' => (1, Piece::Closes),
        ';' => (1, Piece::Ends),
        c if is_operator(c) => (while_in(is_operator), Piece::Joins),
        c if is_of_word(c) => {
            let length = while_in(is_of_word);
            match &text[..length] {
                "if" => (length, Piece::Branches),
                word if JOINING.contains(&word) => (length, Piece::Joins),
                _ => (length, Piece::Other),
            }
        }
        other => (other.len_utf8(), Piece::Other),
    }
}

fn is_operator(c: char) -> bool {
    "+-*!&|<>=./%".contains(c)
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// From the first quote to the one that ends it, or to the end.
fn text_length(text: &str) -> usize {
    let mut escaped = true;
    for (place, c) in text.char_indices() {
        match c {
            '"' if !escaped => return place + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_texts_and_comments_does_not_count() {
        let text = "(".repeat(100);
        for source in [
            format!(
                "permit (principal, action, resource) when {{ \"{text}\" == \"\\\"{text}\" }};"
            ),
            format!("// {text}\npermit (principal, action, resource);"),
            "permit (principal, action, resource) when { 1 < 2 && 2 < 3 };\n".repeat(1_000),
            format!(
                "permit (principal, action, resource) when {{ [{}] == [] }};",
                "1,".repeat(9_000)
            ),
        ] {
            assert_eq!(check(&source), Ok(()));
        }
        assert_eq!(check(""), Ok(()));
        assert_eq!(check("\"never ends \\"), Ok(()));
        assert_eq!(check("§ä/\u{0}"), Ok(()));
    }

    #[test]
    fn what_is_too_deep_is_refused() {
        for source in [
            "(".repeat(33),
            format!("{}[{{", "( ".repeat(31)),
            "!(".repeat(33),
            "if true then true else ".repeat(33),
            "true && ".repeat(129),
            "1+".repeat(129),
            "a.".repeat(129),
            "when {} ".repeat(129),
            "x has ".repeat(129),
        ] {
            assert!(check(&source).is_err(), "{source}");
        }
    }
}
