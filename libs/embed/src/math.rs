//! The two functions that a transformer needs beyond arithmetic, as polynomials of our own.
//!
//! A library's `exp` or `erf` may change with the C library or the CPU; these are fixed sequences
//! of rounded operations, so their bits are fixed too. Coefficients are Chebyshev interpolations,
//! rewritten in powers.

use crate::simd::{Lanes, ROUNDING};

/// 2^x on [-0.5, 0.5], lowest power first; the first is exactly one, so 2^n is exact.
const EXP2: [f32; 7] = [
    1.0,
    std::f32::consts::LN_2,
    0.240_226_5,
    0.055_503_27,
    0.009_618_026,
    0.001_340_043_2,
    0.000_154_697_32,
];

/// Beyond this bound the normal distribution function is taken as constant.
const GELU_BOUND: f32 = 4.5;

/// (Φ(x) − ½) / x as a polynomial in 2x²/4.5² − 1, lowest power first.
const GELU: [f32; 11] = [
    0.156_904_93,
    -0.077_193_86,
    0.054_701_19,
    -0.040_109_21,
    0.028_283_93,
    -0.019_020_94,
    0.011_439_226,
    -0.005_251_548,
    0.002_716_277_5,
    -0.002_340_016,
    0.000_980_692_6,
];

/// Gives 2^x for x ≤ 0 with a relative error below 1e-6; exactly 0 for x ≤ -127.
#[inline(always)]
pub(crate) fn exp2<L: Lanes>(x: L) -> L {
    let x = x.larger(L::splat(-127.0));
    let rounded = x.add(L::splat(ROUNDING));
    let fraction = x.sub(rounded.sub(L::splat(ROUNDING)));
    polynomial(&EXP2, fraction).scale_by_power(rounded)
}

/// Gives x·Φ(x), the exact (error-function) GELU, within 2e-5 for |x| ≤ 8.
///
/// Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016.
#[inline(always)]
pub(crate) fn gelu<L: Lanes>(x: L) -> L {
    let bounded = x
        .larger(L::splat(-GELU_BOUND))
        .smaller(L::splat(GELU_BOUND));
    let square = bounded.mul(bounded);
    let scaled = square.mul_add(L::splat(2.0 / (GELU_BOUND * GELU_BOUND)), L::splat(-1.0));
    let probability = bounded.mul_add(polynomial(&GELU, scaled), L::splat(0.5));
    x.mul(probability)
}

/// Evaluates by Horner's rule, one fused multiply-add for each power.
#[inline(always)]
fn polynomial<L: Lanes, const N: usize>(coefficients: &[f32; N], x: L) -> L {
    let mut value = L::splat(coefficients[N - 1]);
    for index in (0..N - 1).rev() {
        value = value.mul_add(x, L::splat(coefficients[index]));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::scalar::Scalar;

    fn apply(function: fn(Scalar) -> Scalar, x: f32) -> f32 {
        let mut out = [0.0; 16];
        function(Scalar::splat(x)).store(&mut out);
        out[3]
    }

    #[test]
    fn exp2_is_close_and_ends_at_zero() {
        for step in 0..12_600 {
            let x = -(step as f32) / 100.0;
            let exact = f64::from(x).exp2();
            assert!(
                (f64::from(apply(exp2, x)) / exact - 1.0).abs() < 1e-6,
                "2^{x}"
            );
        }
        assert_eq!(apply(exp2, 0.0), 1.0);
        assert_eq!(apply(exp2, -127.0).to_bits(), 0);
        assert_eq!(apply(exp2, f32::NEG_INFINITY).to_bits(), 0);
    }

    #[test]
    fn gelu_is_close_to_the_normal_distribution() {
        // Φ by the trapezoid rule from 0: no error function in the standard library.
        let density = |x: f64| (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let mut integral = 0.0;
        for step in 0..8_000 {
            let x = f64::from(step) / 1000.0;
            for (x, probability) in [(x, 0.5 + integral), (-x, 0.5 - integral)] {
                let error = f64::from(apply(gelu, x as f32)) - x * probability;
                assert!(error.abs() < 2e-5, "gelu({x}) is off by {error}");
            }
            integral += (density(x) + density(x + 0.001)) / 2000.0;
        }
    }
}
