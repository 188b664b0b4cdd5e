//! Every operation gives the scalar bits on every instruction set of this machine.

use super::*;
use crate::simd::Line;

/// A small generator: the tests need variety, not quality.
struct Random(u64);

impl Random {
    /// A number in -1..1.
    fn number(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// A row whose magnitude varies from row to row, as activations do.
    fn row<const LINES: usize>(&mut self) -> Row<LINES> {
        let size = 8.0 * self.number() + 8.5;
        std::array::from_fn(|_| Line(std::array::from_fn(|_| size * self.number())))
    }

    fn rows<const LINES: usize>(&mut self, tokens: usize) -> Vec<Row<LINES>> {
        (0..tokens).map(|_| self.row()).collect()
    }

    fn layer<const QUADS: usize, const LINES: usize>(&mut self) -> Linear<QUADS, LINES> {
        let mut layer = Linear::zeroed();
        for channel in 0..16 * LINES {
            let weights: Vec<f32> = (0..4 * QUADS).map(|_| self.number()).collect();
            layer.set_channel(channel, &weights, self.number());
        }
        layer
    }
}

fn check(operation: impl Fn(Kernels) -> Vec<u32>, what: &str) {
    let expected = operation(Kernels::new(Isa::Scalar).unwrap());
    for isa in Isa::supported() {
        let found = operation(Kernels::new(isa).unwrap());
        let first = found
            .iter()
            .zip(&expected)
            .position(|(found, expected)| found != expected);
        assert_eq!(
            (first, found.len()),
            (None, expected.len()),
            "{what} on {isa}"
        );
    }
}

fn bits<const LINES: usize>(rows: &[Row<LINES>]) -> Vec<u32> {
    rows.iter()
        .flatten()
        .flat_map(|line| line.0.map(f32::to_bits))
        .collect()
}

fn all_bits<const QUADS: usize>(quantized: &Quantized<QUADS>) -> Vec<u32> {
    let bytes = quantized
        .rows
        .iter()
        .flatten()
        .map(|quad| u32::from_le_bytes(*quad));
    let ranges = &quantized.ranges;
    let ranges = ranges
        .iter()
        .flat_map(|range| [range.low.to_bits(), range.step.to_bits()]);
    bytes.chain(ranges).collect()
}

fn sized<const QUADS: usize>(tokens: usize) -> Quantized<QUADS> {
    let mut quantized = Quantized::default();
    quantized.resize(tokens);
    quantized
}

/// Every size of tile, alone and in company.
fn token_counts() -> impl Iterator<Item = usize> {
    (1..=19).chain([31, 32, 33, 50])
}

#[test]
fn linear_layers_agree() {
    let mut random = Random(1);
    let (first, second) = (random.layer(), random.layer());
    let (third, fourth) = (random.layer(), random.layer());
    for tokens in token_counts() {
        let (narrow, wide) = (random.rows(tokens), random.rows(tokens));
        let run = |kernels: Kernels| {
            let (mut narrow_bytes, mut wide_bytes) = (sized(tokens), sized(tokens));
            kernels.quantize_narrow(&narrow, &mut narrow_bytes);
            kernels.quantize_wide(&wide, &mut wide_bytes);
            let mut rows = (
                vec![[Line::ZERO; 72]; tokens],
                vec![[Line::ZERO; 24]; tokens],
            );
            let mut wide_rows = vec![[Line::ZERO; 96]; tokens];
            kernels.query_key_value(&first, &narrow_bytes, &mut rows.0);
            kernels.attention_output(&second, &narrow_bytes, &mut rows.1);
            let mut found = [bits(&rows.0), bits(&rows.1), all_bits(&narrow_bytes)].concat();
            kernels.widen(&third, &narrow_bytes, &mut wide_rows);
            kernels.narrow(&fourth, &wide_bytes, &mut rows.1);
            found.extend([bits(&wide_rows), bits(&rows.1), all_bits(&wide_bytes)].concat());
            found
        };
        check(run, &format!("linear layers of {tokens} tokens"));
    }
}

#[test]
fn the_largest_sums_do_not_saturate() {
    let mut layer = Linear::<384, 24>::zeroed();
    for channel in 0..384 {
        let sign = if channel % 2 == 0 { 1.0 } else { -1.0 };
        layer.set_channel(channel, &[sign; 1536], 0.0);
    }
    let mut input = sized::<384>(1);
    input.rows[0] = [[255; 4]; 384];
    input.ranges[0].step = 1.0;
    for isa in Isa::supported() {
        let mut output = [[Line::ZERO; 24]];
        Kernels::new(isa)
            .unwrap()
            .narrow(&layer, &input, &mut output);
        let exact = 1536.0 * 255.0;
        for [even, odd] in output[0].iter().flat_map(|line| line.0.as_chunks::<2>().0) {
            assert!(
                (even - exact).abs() < 1.0 && (odd + exact).abs() < 1.0,
                "{even} {odd} {isa}"
            );
        }
    }
}

#[test]
fn linear_layers_approximate_the_matrix_product() {
    let mut random = Random(2);
    let mut layer = Linear::<96, 24>::zeroed();
    let weights: Vec<Vec<f32>> = (0..384)
        .map(|_| (0..384).map(|_| random.number()).collect())
        .collect();
    for (channel, weights) in weights.iter().enumerate() {
        layer.set_channel(channel, weights, channel as f32);
    }
    let row: Row<24> = random.row();
    let kernels = Kernels::new(Isa::best()).unwrap();
    let mut input = sized::<96>(1);
    kernels.quantize_narrow(&[row], &mut input);
    let mut output = [[Line::ZERO; 24]];
    kernels.attention_output(&layer, &input, &mut output);
    let inputs: Vec<f32> = row.iter().flat_map(|line| line.0).collect();
    for (channel, weights) in weights.iter().enumerate() {
        let exact: f32 = weights
            .iter()
            .zip(&inputs)
            .map(|(weight, input)| weight * input)
            .sum();
        let found = output[0][channel / 16].0[channel % 16] - channel as f32;
        // Half a step of each kind, over 384 random terms.
        let tolerance = 6.0 * 384.0_f32.sqrt() * (input.ranges[0].step + 16.0 / 254.0) / 2.0;
        assert!(
            (found - exact).abs() < tolerance,
            "channel {channel}: {found}, exact {exact}"
        );
    }
}

#[test]
fn attention_agrees() {
    let mut random = Random(3);
    for tokens in token_counts().chain([255, 256]) {
        let rows: Vec<Row<72>> = random.rows(tokens);
        let run = |kernels: Kernels| {
            let mut scratch = attention::Scratch::default();
            scratch.resize(tokens);
            let mut output = vec![[Line::ZERO; 24]; tokens];
            kernels.attend(&rows, &mut scratch, &mut output);
            bits(&output)
        };
        check(run, &format!("attention over {tokens} tokens"));
    }
}

#[test]
fn attention_forgets_the_longer_text_before() {
    let mut random = Random(4);
    let (long, short) = (random.rows::<72>(40), random.rows::<72>(18));
    let kernels = Kernels::new(Isa::best()).unwrap();
    let run = |scratch: &mut attention::Scratch, rows: &[Row<72>]| {
        scratch.resize(rows.len());
        let mut output = vec![[Line::ZERO; 24]; rows.len()];
        kernels.attend(rows, scratch, &mut output);
        bits(&output)
    };
    let mut used = attention::Scratch::default();
    run(&mut used, &long);
    assert_eq!(
        run(&mut used, &short),
        run(&mut attention::Scratch::default(), &short)
    );
}

#[test]
fn attention_averages_equal_keys() {
    let mut random = Random(5);
    let mut rows: Vec<Row<72>> = random.rows(21);
    for row in &mut rows {
        row[24..48].fill(Line([0.5; 16]));
    }
    let mut scratch = attention::Scratch::default();
    scratch.resize(rows.len());
    let mut output = vec![[Line::ZERO; 24]; rows.len()];
    Kernels::new(Isa::best())
        .unwrap()
        .attend(&rows, &mut scratch, &mut output);
    for line in 0..24 {
        let mean = rows.iter().map(|row| row[48 + line].0[7]).sum::<f32>() / 21.0;
        assert!((output[20][line].0[7] - mean).abs() < 1e-4, "line {line}");
    }
}

#[test]
fn normalisation_agrees() {
    let mut random = Random(6);
    let norm = Norm {
        weight: random.row(),
        bias: random.row(),
    };
    let (hidden, delta) = (random.rows::<24>(33), random.rows::<24>(33));
    let run = |kernels: Kernels| {
        let (mut hidden, mut output) = (hidden.clone(), sized(33));
        kernels.add_and_normalize(&norm, &delta, &mut hidden, &mut output);
        [bits(&hidden), all_bits(&output)].concat()
    };
    check(run, "normalisation");
}

#[test]
fn a_constant_row_quantizes_to_step_zero() {
    for isa in Isa::supported() {
        let mut output = sized::<96>(1);
        let rows = [[Line([-2.5; 16]); 24]];
        Kernels::new(isa)
            .unwrap()
            .quantize_narrow(&rows, &mut output);
        assert_eq!(
            (output.ranges[0].low, output.ranges[0].step),
            (-2.5, 0.0),
            "{isa}"
        );
        assert_eq!(output.rows[0], [[0; 4]; 96], "{isa}");
    }
}

#[test]
fn a_missing_instruction_set_is_refused() {
    for isa in Isa::ALL {
        assert_eq!(Kernels::new(isa).is_ok(), isa.is_supported(), "{isa}");
    }
}
