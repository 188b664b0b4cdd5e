use super::*;

/// Fixes what becomes of every character. Another toolchain or table that gives another hash
/// changes embeddings: then the version of the quantizer must change too.
#[test]
fn normalisation_of_every_character_is_fixed() {
    let mut hasher = blake3::Hasher::new();
    let mut text = String::new();
    for character in '\0'..=char::MAX {
        text.clear();
        // The leading letter shows whether the character separates, and keeps marks in company.
        normalize(&format!("e{character}E"), &mut text);
        let kind = [
            u8::from(separates(character)),
            u8::from(is_punctuation(character)),
        ];
        hasher.update(text.as_bytes()).update(&kind);
    }
    assert_eq!(
        hasher.finalize().to_string(),
        "883c6d350a81455cc595efa1ba13595f9a4d8e1c4f2f70cad954cdd110e69c6a"
    );
}

#[test]
fn ascii_takes_the_same_way_as_the_rest() {
    // Words hold no white space: texts are split there first.
    for character in ('\0'..='\x7f').filter(|character| !separates(*character)) {
        let (mut fast, mut full) = (String::new(), String::new());
        normalize(&format!("Ab{character}"), &mut fast);
        normalize(&format!("Ab{character}é"), &mut full);
        assert_eq!(format!("{fast}e"), full, "{character:?}");
    }
}

fn check(text: &str, limit: usize, expected: &[u32]) {
    let mut vocabulary = vec![""; 103];
    vocabulary.extend(["un", "##aff", "##able", "a", "##b", "!", "中"]);
    let tokenizer = Tokenizer::new(vocabulary.into_iter());
    let mut tokens = vec![9; 9];
    tokenizer.encode(text, limit, &mut String::from("left over"), &mut tokens);
    assert_eq!(tokens, expected, "{text:?}");
}

#[test]
fn words_become_their_longest_pieces() {
    check("unaffable", 9, &[START, 103, 104, 105, END]);
    check(" UN\u{e4}ff \t", 9, &[START, 103, 104, END]);
    check("A\u{301}b!a", 9, &[START, 106, 107, 108, 106, END]);
    check("a中a", 9, &[START, 106, 109, 106, END]);
    check("a\u{1}\u{200b}b", 9, &[START, 106, 107, END]);
    check("abz", 9, &[START, UNKNOWN, END]);
    check("", 9, &[START, END]);
}

#[test]
fn special_tokens_stand_for_themselves() {
    check(
        "a[SEP]b[mask][[MASK]",
        20,
        &[
            START, 106, END, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, 103, END,
        ],
    );
}

#[test]
fn surplus_is_cut_before_the_end_token() {
    check("unaffable a b", 4, &[START, 103, 104, END]);
    check("unaffable a b", 2, &[START, END]);
}

#[test]
fn endless_words_are_unknown() {
    check(&"a".repeat(101), 9, &[START, UNKNOWN, END]);
    check(&format!("a{}", "b".repeat(99)), 300, &{
        let mut expected = vec![107; 102];
        (expected[0], expected[1], expected[101]) = (START, 106, END);
        expected
    });
}
