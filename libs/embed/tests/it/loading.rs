//! The files of a model: made once, checked always, and named in every error.

use std::fs;
use std::path::Path;

use commonplace_embed::{EmbedError, Model};

use crate::support;

const QUANTIZED: &str = "minilm-q8-v1.bin";

/// Gives a folder with copies of the named files of the model.
fn folder_with(files: &[&str]) -> Option<tempfile::TempDir> {
    let source = support::model_folder()?;
    // Makes the quantized file if this is the first load.
    Model::load(&source).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        fs::copy(source.join(file), folder.path().join(file)).unwrap();
    }
    Some(folder)
}

fn error_of(folder: &Path) -> EmbedError {
    Model::load(folder).err().unwrap()
}

fn cut(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
}

#[test]
fn an_empty_folder_names_the_missing_file_and_the_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let error = error_of(folder.path());
    assert!(matches!(error, EmbedError::Missing { .. }));
    let path = folder.path().join("model.safetensors");
    let expected = format!(
        "model file `{}` not found; run `com model pull`",
        path.display()
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_cut_source_is_refused_by_name() {
    for damaged in ["model.safetensors", "tokenizer.json"] {
        let Some(folder) = folder_with(&["model.safetensors", "tokenizer.json"]) else {
            return;
        };
        cut(&folder.path().join(damaged));
        let error = error_of(folder.path());
        assert!(matches!(error, EmbedError::WrongDigest { .. }), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains(damaged) && text.contains("com model pull"),
            "{text}"
        );
        assert!(!folder.path().join(QUANTIZED).exists());
    }
}

#[test]
fn the_first_load_leaves_the_quantized_file_and_nothing_else() {
    let Some(folder) = folder_with(&["model.safetensors", "tokenizer.json"]) else {
        return;
    };
    let first = Model::load(folder.path()).unwrap();
    let mut names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, [QUANTIZED, "model.safetensors", "tokenizer.json"]);
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    let second = Model::load(folder.path()).unwrap();
    assert_eq!(first.embed("the same text"), second.embed("the same text"));
    assert_eq!(first.fingerprint(), second.fingerprint());
}

#[test]
fn a_damaged_quantized_file_is_made_again() {
    let files = ["model.safetensors", "tokenizer.json", QUANTIZED];
    let Some(folder) = folder_with(&files) else {
        return;
    };
    let path = folder.path().join(QUANTIZED);
    let intact = fs::read(&path).unwrap();
    let mut flipped = intact.clone();
    flipped[12_345_678] ^= 1;
    let longer = [&intact[..], b"x"].concat();
    for damaged in [&intact[..intact.len() - 1], &flipped, &longer, b""] {
        fs::write(&path, damaged).unwrap();
        Model::load(folder.path()).unwrap();
        assert!(fs::read(&path).unwrap() == intact, "not made again");
    }
}

#[test]
fn a_damaged_quantized_file_without_its_source_is_an_error() {
    let Some(folder) = folder_with(&[QUANTIZED]) else {
        return;
    };
    cut(&folder.path().join(QUANTIZED));
    let error = error_of(folder.path());
    assert!(matches!(error, EmbedError::Missing { .. }), "{error:?}");
}

#[test]
fn a_folder_in_place_of_a_file_is_unreadable() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("model.safetensors")).unwrap();
    let error = error_of(folder.path());
    assert!(matches!(error, EmbedError::Unreadable { .. }), "{error:?}");
}

#[test]
fn the_fingerprint_names_what_bits_depend_on() {
    let Some(model) = support::model() else {
        return;
    };
    let fingerprint = model.fingerprint();
    let parts = [
        "all-minilm-l6-v2;",
        "weights=sha256:53aa5117",
        "tokenizer=sha256:be50c362",
    ];
    for part in parts
        .iter()
        .chain(&["dimension=384;", "tokens=256;", "quantizer=q8-v1"])
    {
        assert!(fingerprint.contains(part), "{part} in {fingerprint}");
    }
    assert!(fingerprint.bytes().all(|byte| byte.is_ascii_graphic()));
}
