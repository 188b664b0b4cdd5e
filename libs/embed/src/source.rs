//! Reads the published model (safetensors and tokenizer.json) and quantizes it.
//!
//! Runs once per machine. Division, multiplication and rounding are all it does to a number, so
//! every machine gets the same quantized bytes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::linear::{Linear, Row};
use crate::network::{Layer, Network};
use crate::normalize::Norm;
use crate::simd::Line;
use crate::{DIMENSION, EmbedError, LAYERS, MAX_TOKENS, VOCABULARY};

/// Lower-case hexadecimal SHA-256 of the published `model.safetensors`.
pub(crate) const WEIGHTS_SHA256: &str =
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";
/// Lower-case hexadecimal SHA-256 of the published `tokenizer.json`.
pub(crate) const TOKENIZER_SHA256: &str =
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037";

/// The published model in the form that we use.
pub(crate) struct Source {
    pub(crate) network: Network,
    /// Every piece in order of ids.
    pub(crate) vocabulary: Vec<String>,
}

/// Reads, checks and quantizes the two files in `folder`.
pub(crate) fn read(folder: &Path) -> Result<Source, EmbedError> {
    let path = folder.join("model.safetensors");
    let bytes = read_checked(&path, WEIGHTS_SHA256)?;
    let vocabulary = read_vocabulary(&folder.join("tokenizer.json"))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| EmbedError::Malformed {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    let network = quantize(&Weights { tensors, path })?;
    Ok(Source {
        network,
        vocabulary,
    })
}

fn read_checked(path: &Path, expected: &'static str) -> Result<Vec<u8>, EmbedError> {
    let bytes = fs::read(path).map_err(|source| unreadable(path, source))?;
    let found = hex::encode(Sha256::digest(&bytes));
    if found != expected {
        return Err(EmbedError::WrongDigest {
            path: path.into(),
            found,
            expected,
        });
    }
    Ok(bytes)
}

/// Tells a missing file from one that cannot be read.
pub(crate) fn unreadable(path: &Path, source: io::Error) -> EmbedError {
    match source.kind() {
        io::ErrorKind::NotFound => EmbedError::Missing { path: path.into() },
        _ => EmbedError::Unreadable {
            path: path.into(),
            source,
        },
    }
}

fn read_vocabulary(path: &Path) -> Result<Vec<String>, EmbedError> {
    #[derive(Deserialize)]
    struct File {
        model: Model,
    }
    #[derive(Deserialize)]
    struct Model {
        vocab: BTreeMap<String, usize>,
    }

    let malformed = |reason: String| EmbedError::Malformed {
        path: path.into(),
        reason,
    };
    let bytes = read_checked(path, TOKENIZER_SHA256)?;
    let file: File =
        serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
    let mut vocabulary = vec![String::new(); VOCABULARY];
    for (piece, id) in file.model.vocab {
        let slot = vocabulary.get_mut(id);
        *slot.ok_or_else(|| malformed(format!("id {id} is not below {VOCABULARY}")))? = piece;
    }
    Ok(vocabulary)
}

/// Named tensors of `f32`.
struct Weights<'a> {
    tensors: SafeTensors<'a>,
    path: PathBuf,
}

impl Weights<'_> {
    /// Gives a tensor's numbers; `shape` is what this crate was written for.
    fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, EmbedError> {
        let malformed = |reason| EmbedError::Malformed {
            path: self.path.clone(),
            reason,
        };
        let tensor = self
            .tensors
            .tensor(name)
            .map_err(|error| malformed(error.to_string()))?;
        if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
            let (dtype, found) = (tensor.dtype(), tensor.shape());
            let reason = format!("tensor `{name}` is {dtype:?} {found:?}, expected F32 {shape:?}");
            return Err(malformed(reason));
        }
        Ok(tensor
            .data()
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect())
    }

    fn norm<const LINES: usize>(&self, prefix: &str) -> Result<Norm<LINES>, EmbedError> {
        Ok(Norm {
            weight: lines(&self.get(&format!("{prefix}.weight"), &[16 * LINES])?),
            bias: lines(&self.get(&format!("{prefix}.bias"), &[16 * LINES])?),
        })
    }

    /// Stacks the named layers' outputs into one layer.
    fn linear<const QUADS: usize, const LINES: usize>(
        &self,
        prefixes: &[String],
    ) -> Result<Linear<QUADS, LINES>, EmbedError> {
        let mut layer = Linear::zeroed();
        let inputs = Linear::<QUADS, LINES>::INPUTS;
        let outputs = Linear::<QUADS, LINES>::OUTPUTS / prefixes.len();
        for (section, prefix) in prefixes.iter().enumerate() {
            let weights = self.get(&format!("{prefix}.weight"), &[outputs, inputs])?;
            let bias = self.get(&format!("{prefix}.bias"), &[outputs])?;
            for (channel, weights) in weights.chunks(inputs).enumerate() {
                layer.set_channel(section * outputs + channel, weights, bias[channel]);
            }
        }
        Ok(layer)
    }
}

fn quantize(weights: &Weights<'_>) -> Result<Network, EmbedError> {
    let shape = [VOCABULARY, DIMENSION];
    let words = weights.get("embeddings.word_embeddings.weight", &shape)?;
    let rows = words.as_chunks::<DIMENSION>().0;
    let (words, word_scales) = rows.iter().map(crate::embedding::quantize).unzip();
    let layers = (0..LAYERS)
        .map(|index| layer(weights, index))
        .collect::<Result<_, _>>()?;
    Ok(Network {
        words,
        word_scales,
        positions: positions(weights)?,
        norm: weights.norm("embeddings.LayerNorm")?,
        layers,
    })
}

/// Gives each position's embedding with that of token type 0, the only type that we use.
fn positions(weights: &Weights<'_>) -> Result<Vec<Row<24>>, EmbedError> {
    let types = weights.get("embeddings.token_type_embeddings.weight", &[2, DIMENSION])?;
    let mut rows = weights.get("embeddings.position_embeddings.weight", &[512, DIMENSION])?;
    rows.truncate(MAX_TOKENS * DIMENSION);
    for row in rows.chunks_mut(DIMENSION) {
        for (number, of_type) in row.iter_mut().zip(&types) {
            *number += of_type;
        }
    }
    Ok(rows.chunks(DIMENSION).map(lines).collect())
}

fn layer(weights: &Weights<'_>, index: usize) -> Result<Layer, EmbedError> {
    let name = |part: &str| format!("encoder.layer.{index}.{part}");
    let parts = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
    Ok(Layer {
        query_key_value: weights.linear(&parts)?,
        attention_output: weights.linear(&[name("attention.output.dense")])?,
        attention_norm: weights.norm(&name("attention.output.LayerNorm"))?,
        widen: weights.linear(&[name("intermediate.dense")])?,
        narrow: weights.linear(&[name("output.dense")])?,
        output_norm: weights.norm(&name("output.LayerNorm"))?,
    })
}

/// Cuts numbers into lines; what is missing stays zero.
fn lines<const LINES: usize>(numbers: &[f32]) -> Row<LINES> {
    let mut row = [Line::ZERO; LINES];
    for (line, numbers) in row.iter_mut().zip(numbers.as_chunks().0) {
        *line = Line(*numbers);
    }
    row
}
