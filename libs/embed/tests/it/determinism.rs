//! The same bits on every instruction set, alone, in company and in any order; and for ever.

use std::thread;

use commonplace_embed::{Embedding, Isa, Workspace};

use crate::support;

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let Some(model) = support::model() else {
        return;
    };
    let mut texts = support::texts(10, 16);
    texts.extend([String::new(), "word ".repeat(75)]);
    for text in &texts {
        let mut vectors = Vec::new();
        for isa in Isa::supported() {
            let vector = model
                .on(isa)
                .unwrap()
                .embed_f32(&mut Workspace::new(), text);
            vectors.push((isa, vector.map(f32::to_bits)));
        }
        for (isa, vector) in &vectors {
            assert!(
                *vector == vectors[0].1,
                "{isa} differs from {} on {text:?}",
                vectors[0].0
            );
        }
    }
}

#[test]
fn neighbours_threads_and_workspaces_do_not_matter() {
    let Some(model) = support::model() else {
        return;
    };
    let texts = support::texts(60, 90);
    let alone: Vec<Embedding> = texts
        .iter()
        .map(|text| model.embed_with(&mut Workspace::new(), text))
        .collect();
    let mut reused = Workspace::new();
    for (text, expected) in texts.iter().zip(&alone).rev() {
        assert_eq!(model.embed_with(&mut reused, text), *expected);
    }
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for (text, expected) in texts.iter().zip(&alone) {
                    assert_eq!(model.embed(text), *expected);
                }
            });
        }
    });
}

/// Stored vectors and packs outlive this build. If this fails on purpose, the quantizer's version
/// must change, so that the fingerprint does.
#[test]
fn embeddings_are_fixed() {
    let Some(model) = support::model() else {
        return;
    };
    let mut hasher = blake3::Hasher::new();
    for text in support::statements(20) {
        let embedding = model.embed(&text);
        hasher.update(&embedding.codes.map(|code| code as u8));
        hasher.update(&embedding.scale.to_le_bytes());
    }
    assert_eq!(
        hasher.finalize().to_string(),
        "7b1ab5ef1ac8b33f534a78ce8bff62dc03d2aab5ed16f05a26a5c3fc7c53654d"
    );
    let embedding = model.embed("why did the deploy fail?");
    assert_eq!(embedding.codes[..8], [12, -26, 25, -23, 38, -34, 20, -3]);
    assert_eq!(embedding.scale, 0.001_313_147_7);
}

#[test]
fn text_beyond_the_limit_is_cut_off() {
    let Some(model) = support::model() else {
        return;
    };
    let long = "word ".repeat(300);
    assert_eq!(model.tokenize(&long).len(), 256);
    assert_eq!(model.embed(&long), model.embed(&"word ".repeat(254)));
    assert_ne!(model.embed(&long), model.embed(&"word ".repeat(253)));
}

#[test]
fn meaning_survives() {
    let Some(model) = support::model() else {
        return;
    };
    let question = model.embed("how do I undo the last deployment?");
    let near = question.similarity(&model.embed("rolling back a release that went wrong"));
    let far = question.similarity(&model.embed("a recipe for garlic soup"));
    assert!(near > far + 0.2, "near {near}, far {far}");
}
