//! The transformer: six layers of attention and feed-forward over one sequence of tokens.
//!
//! Source: Vaswani et al., "Attention Is All You Need", 2017; Devlin et al., "BERT", 2018;
//! sentence-transformers/all-MiniLM-L6-v2 for the shapes and the mean pooling.

use crate::attention;
use crate::kernels::Kernels;
use crate::linear::{Linear, Quantized, Row};
use crate::normalize::Norm;
use crate::simd::scalar::Scalar;
use crate::simd::{Lanes, Line};
use crate::{DIMENSION, MAX_TOKENS};

/// Everything learnt, quantized.
pub(crate) struct Network {
    /// One row of codes and one scale per entry of the vocabulary.
    pub(crate) words: Vec<[i8; DIMENSION]>,
    pub(crate) word_scales: Vec<f32>,
    /// One row per position, with the embedding of token type 0 added.
    pub(crate) positions: Vec<Row<24>>,
    pub(crate) norm: Norm<24>,
    pub(crate) layers: Vec<Layer>,
}

/// One transformer layer.
pub(crate) struct Layer {
    /// Query, key and value behind one another; each holds its heads behind one another.
    pub(crate) query_key_value: Linear<96, 72>,
    pub(crate) attention_output: Linear<96, 24>,
    pub(crate) attention_norm: Norm<24>,
    pub(crate) widen: Linear<96, 96>,
    pub(crate) narrow: Linear<384, 24>,
    pub(crate) output_norm: Norm<24>,
}

/// The buffers of one forward pass, grown to the longest sequence seen.
#[derive(Default)]
pub(crate) struct Activations {
    hidden: Vec<Row<24>>,
    delta: Vec<Row<24>>,
    query_key_value: Vec<Row<72>>,
    wide: Vec<Row<96>>,
    narrow_bytes: Quantized<96>,
    wide_bytes: Quantized<384>,
    attention: attention::Scratch,
}

impl Activations {
    fn resize(&mut self, tokens: usize) {
        self.hidden.resize(tokens, [Line::ZERO; 24]);
        self.delta.resize(tokens, [Line::ZERO; 24]);
        self.query_key_value.resize(tokens, [Line::ZERO; 72]);
        self.wide.resize(tokens, [Line::ZERO; 96]);
        self.narrow_bytes.resize(tokens);
        self.wide_bytes.resize(tokens);
        self.attention.resize(tokens);
    }
}

impl Network {
    /// Gives the unit-length mean of the last layer's token vectors.
    ///
    /// `tokens`: ids of the vocabulary; at least one, and those beyond 256 are ignored.
    pub(crate) fn forward(
        &self,
        kernels: Kernels,
        tokens: &[u32],
        buffers: &mut Activations,
    ) -> [f32; DIMENSION] {
        let tokens = &tokens[..tokens.len().min(MAX_TOKENS)];
        buffers.resize(tokens.len());
        self.look_up(tokens, buffers);
        let Activations {
            hidden,
            delta,
            narrow_bytes,
            ..
        } = buffers;
        kernels.add_and_normalize(&self.norm, delta, hidden, narrow_bytes);
        for layer in &self.layers {
            layer.forward(kernels, buffers);
        }
        pool(&buffers.hidden)
    }

    /// Writes each token's position and word vectors, which the first normalisation adds.
    fn look_up(&self, tokens: &[u32], buffers: &mut Activations) {
        let rows = buffers.hidden.iter_mut().zip(&mut buffers.delta);
        for ((token, position), (hidden, delta)) in tokens.iter().zip(&self.positions).zip(rows) {
            let word = (*token as usize).min(self.words.len() - 1);
            *hidden = *position;
            for (line, codes) in delta.iter_mut().zip(self.words[word].as_chunks::<16>().0) {
                *line = Line(codes.map(|code| f32::from(code) * self.word_scales[word]));
            }
        }
    }
}

impl Layer {
    fn forward(&self, kernels: Kernels, buffers: &mut Activations) {
        let Activations {
            hidden,
            delta,
            query_key_value,
            wide,
            narrow_bytes,
            wide_bytes,
            attention,
        } = buffers;
        kernels.query_key_value(&self.query_key_value, narrow_bytes, query_key_value);
        kernels.attend(query_key_value, attention, delta);
        kernels.quantize_narrow(delta, narrow_bytes);
        kernels.attention_output(&self.attention_output, narrow_bytes, delta);
        kernels.add_and_normalize(&self.attention_norm, delta, hidden, narrow_bytes);
        kernels.widen(&self.widen, narrow_bytes, wide);
        kernels.quantize_wide(wide, wide_bytes);
        kernels.narrow(&self.narrow, wide_bytes, delta);
        kernels.add_and_normalize(&self.output_norm, delta, hidden, narrow_bytes);
    }
}

/// Sums the rows in order and scales the sum to length one; the mean has the same direction.
fn pool(rows: &[Row<24>]) -> [f32; DIMENSION] {
    let mut sums = [Scalar::splat(0.0); 24];
    for row in rows {
        for (sum, line) in sums.iter_mut().zip(row) {
            *sum = sum.add(Scalar::load(&line.0));
        }
    }
    let mut squares = Scalar::splat(0.0);
    for sum in sums {
        squares = squares.add(sum.mul(sum));
    }
    let length = squares.sum().sqrt();
    let inverse = Scalar::splat(if length > 0.0 { 1.0 / length } else { 0.0 });
    let mut vector = [0.0; DIMENSION];
    for (sum, to) in sums.into_iter().zip(vector.as_chunks_mut::<16>().0) {
        sum.mul(inverse).store(to);
    }
    vector
}
