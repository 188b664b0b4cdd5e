//! Our WordPiece gives the ids of the `tokenizers` crate.

use std::path::Path;

use commonplace_embed::Model;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokenizers::Tokenizer;

use crate::support;

fn oracle(folder: &Path) -> Tokenizer {
    let mut oracle = Tokenizer::from_file(folder.join("tokenizer.json")).unwrap();
    oracle.with_padding(None).with_truncation(None).unwrap();
    oracle
}

fn expected(oracle: &Tokenizer, text: &str) -> Vec<u32> {
    let mut ids = oracle.encode_fast(text, true).unwrap().get_ids().to_vec();
    if ids.len() > 256 {
        ids.truncate(255);
        ids.push(102);
    }
    ids
}

fn check(model: &Model, oracle: &Tokenizer, text: &str) {
    assert_eq!(model.tokenize(text), expected(oracle, text), "{text:?}");
}

#[test]
fn ids_are_those_of_the_reference() {
    let Some(folder) = support::model_folder() else {
        return;
    };
    let (model, oracle) = (Model::load(&folder).unwrap(), oracle(&folder));
    for text in support::texts(1000, 200) {
        check(&model, &oracle, &text);
    }
    let special = [
        "[CLS] a[SEP]b [mask][MASK] [[UNK]]",
        "[PAD]",
        "x\u{b}y\u{c}z\u{85}w",
        "a\0b\u{fffd}c",
    ];
    let unicode = [
        "Ａｂｃ",
        "ǅungla ŀ İstanbul ΣΑΣ ẞ",
        "e\u{301}\u{323} \u{1d165}\u{302e}x",
        "한국어 조선말",
    ];
    let more = [
        "क्षत्रिय",
        "𠀀𫝀豈",
        "a\u{2028}b\u{3000}c\u{200d}d\u{feff}",
        "؟«»…—‽",
        "",
        " ",
    ];
    for text in special.iter().chain(&unicode).chain(&more) {
        check(&model, &oracle, text);
    }
}

#[test]
fn every_character_gives_the_ids_of_the_reference() {
    let Some(folder) = support::model_folder() else {
        return;
    };
    let (model, oracle) = (Model::load(&folder).unwrap(), oracle(&folder));
    let characters: Vec<char> = ('\0'..=char::MAX).filter(|c| !c.is_control()).collect();
    // Below the limit of 256 tokens, so that no character is cut off.
    for chunk in characters.chunks(80) {
        let text: String = chunk
            .iter()
            .flat_map(|character| [*character, ' ', 'e'])
            .collect();
        if expected(&oracle, &text).len() == 256 {
            chunk
                .iter()
                .for_each(|c| check(&model, &oracle, &format!("e{c}e {c}")));
        } else {
            check(&model, &oracle, &text);
        }
    }
}

#[test]
fn random_texts_give_the_ids_of_the_reference() {
    let Some(folder) = support::model_folder() else {
        return;
    };
    let (model, oracle) = (Model::load(&folder).unwrap(), oracle(&folder));
    let characters = prop_oneof![
        4 => prop::char::range('a', 'z'),
        2 => prop::char::range(' ', '~'),
        1 => prop::char::range('\0', '\u{2fff}'),
        1 => any::<char>(),
    ];
    let texts = prop::collection::vec(characters, 0..120);
    let mut runner = TestRunner::new(Config {
        cases: 2000,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&texts, |text| {
            let text: String = text.into_iter().collect();
            prop_assert_eq!(model.tokenize(&text), expected(&oracle, &text));
            Ok(())
        })
        .unwrap();
}
