//! How far quantizing moves an embedding from the published model in full precision.
//!
//! The reference below is the model's definition in plain `f32`: no quantization, no kernels of
//! ours, the error function and exponentials in `f64`.

use std::fs;
use std::path::Path;
use std::thread;

use commonplace_embed::{Embedding, Model, Workspace};
use safetensors::SafeTensors;

use crate::support;

/// A layer with its weights transposed: `inputs` rows of one number per output.
struct Dense {
    rows: Vec<Vec<f32>>,
    bias: Vec<f32>,
}

struct Reference<'a> {
    tensors: SafeTensors<'a>,
    layers: Vec<[Dense; 6]>,
}

/// One vector per token.
type Matrix = Vec<Vec<f32>>;

impl<'a> Reference<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let mut reference = Reference {
            tensors: SafeTensors::deserialize(bytes).unwrap(),
            layers: Vec::new(),
        };
        for index in 0..6 {
            let dense = |part: &str| reference.dense(&format!("encoder.layer.{index}.{part}"));
            reference.layers.push([
                dense("attention.self.query"),
                dense("attention.self.key"),
                dense("attention.self.value"),
                dense("attention.output.dense"),
                dense("intermediate.dense"),
                dense("output.dense"),
            ]);
        }
        reference
    }

    fn numbers(&self, name: &str) -> Vec<f32> {
        let data = self.tensors.tensor(name).unwrap().data();
        data.as_chunks()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect()
    }

    fn dense(&self, prefix: &str) -> Dense {
        let weights = self.numbers(&format!("{prefix}.weight"));
        let bias = self.numbers(&format!("{prefix}.bias"));
        let inputs = weights.len() / bias.len();
        let row = |input| {
            weights
                .iter()
                .skip(input)
                .step_by(inputs)
                .copied()
                .collect()
        };
        Dense {
            rows: (0..inputs).map(row).collect(),
            bias,
        }
    }

    fn normalize(&self, prefix: &str, rows: &mut Matrix) {
        let weight = self.numbers(&format!("{prefix}.LayerNorm.weight"));
        let bias = self.numbers(&format!("{prefix}.LayerNorm.bias"));
        for row in rows {
            let mean = row.iter().sum::<f32>() / 384.0;
            let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / 384.0;
            for ((x, weight), bias) in row.iter_mut().zip(&weight).zip(&bias) {
                *x = (*x - mean) / (variance + 1e-12).sqrt() * weight + bias;
            }
        }
    }

    fn look_up(&self, tokens: &[u32]) -> Matrix {
        let words = self.numbers("embeddings.word_embeddings.weight");
        let positions = self.numbers("embeddings.position_embeddings.weight");
        let types = self.numbers("embeddings.token_type_embeddings.weight");
        let row = |(position, token): (usize, &u32)| {
            let word = *token as usize * 384;
            (0..384)
                .map(|i| words[word + i] + positions[position * 384 + i] + types[i])
                .collect()
        };
        tokens.iter().enumerate().map(row).collect()
    }

    fn embed(&self, tokens: &[u32]) -> Vec<f32> {
        let mut hidden = self.look_up(tokens);
        self.normalize("embeddings", &mut hidden);
        for (index, [query, key, value, output, widen, narrow]) in self.layers.iter().enumerate() {
            let context = attend(
                &query.apply(&hidden),
                &key.apply(&hidden),
                &value.apply(&hidden),
            );
            add(&mut hidden, &output.apply(&context));
            self.normalize(
                &format!("encoder.layer.{index}.attention.output"),
                &mut hidden,
            );
            let mut wide = widen.apply(&hidden);
            wide.iter_mut().flatten().for_each(|x| *x = gelu(*x));
            add(&mut hidden, &narrow.apply(&wide));
            self.normalize(&format!("encoder.layer.{index}.output"), &mut hidden);
        }
        let mut sums = vec![0.0; 384];
        hidden
            .iter()
            .for_each(|row| sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x));
        let length = sums.iter().map(|x| x * x).sum::<f32>().sqrt();
        sums.into_iter().map(|x| x / length).collect()
    }
}

impl Dense {
    fn apply(&self, rows: &Matrix) -> Matrix {
        let mut output = vec![self.bias.clone(); rows.len()];
        for (input, weights) in self.rows.iter().enumerate() {
            for (row, sums) in rows.iter().zip(&mut output) {
                let x = row[input];
                sums.iter_mut()
                    .zip(weights)
                    .for_each(|(sum, weight)| *sum += x * weight);
            }
        }
        output
    }
}

fn add(rows: &mut Matrix, others: &Matrix) {
    for (row, other) in rows.iter_mut().zip(others) {
        row.iter_mut().zip(other).for_each(|(x, y)| *x += y);
    }
}

fn attend(queries: &Matrix, keys: &Matrix, values: &Matrix) -> Matrix {
    let mut output = vec![vec![0.0; 384]; queries.len()];
    for (query, output) in queries.iter().zip(&mut output) {
        for head in (0..384).step_by(32).map(|start| start..start + 32) {
            let score = |key: &Vec<f32>| {
                let products = query[head.clone()].iter().zip(&key[head.clone()]);
                products.map(|(x, y)| f64::from(x * y)).sum::<f64>() / 32.0_f64.sqrt()
            };
            let scores: Vec<f64> = keys.iter().map(score).collect();
            let largest = scores.iter().copied().fold(f64::MIN, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
            let total: f64 = weights.iter().sum();
            for (weight, value) in weights.iter().zip(values) {
                let share = (weight / total) as f32;
                for input in head.clone() {
                    output[input] += share * value[input];
                }
            }
        }
    }
    output
}

/// x·Φ(x); the error function by Abramowitz and Stegun 7.1.26, within 1.5e-7.
fn gelu(x: f32) -> f32 {
    let z = f64::from(x).abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let coefficients = [
        1.061_405_429,
        -1.453_152_027,
        1.421_413_741,
        -0.284_496_736,
        0.254_829_592,
    ];
    let polynomial = coefficients
        .iter()
        .fold(0.0, |sum, coefficient| sum * t + coefficient)
        * t;
    let erf = (1.0 - polynomial * (-z * z).exp()).copysign(f64::from(x));
    (f64::from(x) * 0.5 * (1.0 + erf)) as f32
}

fn cosine(left: &[f32], right: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| {
        x.iter()
            .zip(y)
            .map(|(x, y)| f64::from(*x) * f64::from(*y))
            .sum::<f64>()
    };
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}

#[test]
fn the_reference_gives_published_numbers() {
    let Some(folder) = support::model_folder() else {
        return;
    };
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let model = support::model().unwrap();
    let vector = Reference::new(&bytes).embed(&model.tokenize("This is an example sentence"));
    let published = [
        0.067_656_92,
        0.063_495_94,
        0.048_713_103,
        0.079_304_986,
        0.037_448_07,
    ];
    for (found, expected) in vector.iter().zip(published) {
        assert!(
            (found - expected).abs() < 2e-6,
            "{found}, published {expected}"
        );
    }
}

/// Gives 1 − cosine to the reference of each text's vector and of its codes.
fn distances(texts: &[String], folder: &Path) -> Vec<[f64; 2]> {
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let (reference, model) = (Reference::new(&bytes), Model::load(folder).unwrap());
    let distance = |text: &String| {
        let exact = reference.embed(&model.tokenize(text));
        let vector = model.embed_f32(&mut Workspace::new(), text);
        let codes = Embedding::new(&vector).codes.map(f32::from);
        [1.0 - cosine(&exact, &vector), 1.0 - cosine(&exact, &codes)]
    };
    let (first, second) = texts.split_at(texts.len() / 2);
    thread::scope(|scope| {
        let other = scope.spawn(|| second.iter().map(distance).collect());
        let mut distances: Vec<_> = first.iter().map(distance).collect();
        distances.extend::<Vec<_>>(other.join().unwrap());
        distances
    })
}

fn check(texts: &[String], largest_allowed: f64, mean_allowed: f64) {
    let Some(folder) = support::model_folder() else {
        return;
    };
    let distances = distances(texts, &folder);
    for (index, what) in ["vector", "codes"].iter().enumerate() {
        let largest = distances.iter().map(|pair| pair[index]).fold(0.0, f64::max);
        let mean = distances.iter().map(|pair| pair[index]).sum::<f64>() / texts.len() as f64;
        eprintln!("1 - cosine to the {what}: largest {largest:.2e}, mean {mean:.2e}");
        assert!(
            largest <= largest_allowed && mean <= mean_allowed,
            "{what}: {largest}, {mean}"
        );
    }
}

#[test]
fn quantizing_keeps_the_direction_of_statements() {
    check(&support::statements(200), 2e-3, 1.2e-3);
}

/// A lone stop word or bracket has no direction of its own and moves furthest.
#[test]
fn quantizing_moves_odd_texts_a_little_further() {
    check(&support::texts(40, 20), 8e-3, 1.6e-3);
}
