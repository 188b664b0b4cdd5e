//! The network's operations compiled once for each instruction set.
//!
//! One generic source per operation; each table entry is that source inlined into a function with
//! the `target_feature` attribute, so the compiler may use the instructions there and only there.

#![allow(
    unsafe_code,
    reason = "functions with target features are unsafe to call by pointer"
)]

use crate::attention;
use crate::linear::{self, Linear, Quantized, Row};
use crate::normalize::{self, Norm};
use crate::{EmbedError, Isa};

/// Signature of a linear layer from `4 × QUADS` inputs to `16 × LINES` outputs.
type Apply<const QUADS: usize, const LINES: usize> =
    unsafe fn(&Linear<QUADS, LINES>, &Quantized<QUADS>, &mut [Row<LINES>]);

/// The operations of one instruction set.
struct Table {
    add_and_normalize: unsafe fn(&Norm<24>, &[Row<24>], &mut [Row<24>], &mut Quantized<96>),
    quantize_narrow: unsafe fn(&[Row<24>], &mut Quantized<96>),
    quantize_wide: unsafe fn(&[Row<96>], &mut Quantized<384>),
    query_key_value: Apply<96, 72>,
    attend: unsafe fn(&[Row<72>], &mut attention::Scratch, &mut [Row<24>]),
    attention_output: Apply<96, 24>,
    widen: Apply<96, 96>,
    narrow: Apply<384, 24>,
}

macro_rules! table {
    ($module:ident, $kernel:ty $(, $features:literal)?) => {
        mod $module {
            use super::*;

            pub(super) static TABLE: Table = Table {
                add_and_normalize,
                quantize_narrow,
                quantize_wide,
                query_key_value,
                attend,
                attention_output,
                widen,
                narrow,
            };

            $(#[target_feature(enable = $features)])?
            fn add_and_normalize(
                norm: &Norm<24>,
                delta: &[Row<24>],
                hidden: &mut [Row<24>],
                output: &mut Quantized<96>,
            ) {
                normalize::add_and_normalize::<$kernel, 24, 96>(norm, delta, hidden, output);
            }

            $(#[target_feature(enable = $features)])?
            fn quantize_narrow(rows: &[Row<24>], output: &mut Quantized<96>) {
                normalize::quantize::<$kernel, 24, 96>(rows, output);
            }

            $(#[target_feature(enable = $features)])?
            fn quantize_wide(rows: &[Row<96>], output: &mut Quantized<384>) {
                normalize::quantize::<$kernel, 96, 384>(rows, output);
            }

            $(#[target_feature(enable = $features)])?
            fn query_key_value(
                layer: &Linear<96, 72>,
                input: &Quantized<96>,
                output: &mut [Row<72>],
            ) {
                linear::apply::<$kernel, 96, 72, false>(layer, input, output);
            }

            $(#[target_feature(enable = $features)])?
            fn attend(
                rows: &[Row<72>],
                scratch: &mut attention::Scratch,
                output: &mut [Row<24>],
            ) {
                attention::attend::<$kernel>(rows, scratch, output);
            }

            $(#[target_feature(enable = $features)])?
            fn attention_output(
                layer: &Linear<96, 24>,
                input: &Quantized<96>,
                output: &mut [Row<24>],
            ) {
                linear::apply::<$kernel, 96, 24, false>(layer, input, output);
            }

            $(#[target_feature(enable = $features)])?
            fn widen(layer: &Linear<96, 96>, input: &Quantized<96>, output: &mut [Row<96>]) {
                linear::apply::<$kernel, 96, 96, true>(layer, input, output);
            }

            $(#[target_feature(enable = $features)])?
            fn narrow(layer: &Linear<384, 24>, input: &Quantized<384>, output: &mut [Row<24>]) {
                linear::apply::<$kernel, 384, 24, false>(layer, input, output);
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
table!(
    avx512,
    crate::simd::avx512::Avx512,
    "avx512f,avx512bw,avx512vnni,avx2,fma"
);
#[cfg(target_arch = "x86_64")]
table!(avx_vnni, crate::simd::avx2::AvxVnni, "avxvnni,avx2,fma");
#[cfg(target_arch = "x86_64")]
table!(avx2, crate::simd::avx2::Avx2, "avx2,fma");
table!(scalar, crate::simd::scalar::Scalar);

/// The operations of an instruction set that this CPU has.
#[derive(Clone, Copy)]
pub(crate) struct Kernels {
    table: &'static Table,
    isa: Isa,
}

impl Kernels {
    /// Gives the operations of `isa`, or an error where the CPU lacks it.
    pub(crate) fn new(isa: Isa) -> Result<Kernels, EmbedError> {
        if !isa.is_supported() {
            return Err(EmbedError::UnsupportedIsa { isa });
        }
        let table = match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => &avx512::TABLE,
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => &avx_vnni::TABLE,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &avx2::TABLE,
            _ => &scalar::TABLE,
        };
        Ok(Kernels { table, isa })
    }

    pub(crate) fn isa(self) -> Isa {
        self.isa
    }
}

// SAFETY, for every call below: the only demand of a table entry is the CPU's support for its
// instruction set, and `Kernels::new` gives no table without it.
impl Kernels {
    pub(crate) fn add_and_normalize(
        self,
        norm: &Norm<24>,
        delta: &[Row<24>],
        hidden: &mut [Row<24>],
        output: &mut Quantized<96>,
    ) {
        unsafe { (self.table.add_and_normalize)(norm, delta, hidden, output) }
    }

    pub(crate) fn quantize_narrow(self, rows: &[Row<24>], output: &mut Quantized<96>) {
        unsafe { (self.table.quantize_narrow)(rows, output) }
    }

    pub(crate) fn quantize_wide(self, rows: &[Row<96>], output: &mut Quantized<384>) {
        unsafe { (self.table.quantize_wide)(rows, output) }
    }

    pub(crate) fn query_key_value(
        self,
        layer: &Linear<96, 72>,
        input: &Quantized<96>,
        output: &mut [Row<72>],
    ) {
        unsafe { (self.table.query_key_value)(layer, input, output) }
    }

    pub(crate) fn attend(
        self,
        rows: &[Row<72>],
        scratch: &mut attention::Scratch,
        output: &mut [Row<24>],
    ) {
        unsafe { (self.table.attend)(rows, scratch, output) }
    }

    pub(crate) fn attention_output(
        self,
        layer: &Linear<96, 24>,
        input: &Quantized<96>,
        output: &mut [Row<24>],
    ) {
        unsafe { (self.table.attention_output)(layer, input, output) }
    }

    /// The first layer of the feed-forward part, with its activation function.
    pub(crate) fn widen(
        self,
        layer: &Linear<96, 96>,
        input: &Quantized<96>,
        output: &mut [Row<96>],
    ) {
        unsafe { (self.table.widen)(layer, input, output) }
    }

    /// The second layer of the feed-forward part.
    pub(crate) fn narrow(
        self,
        layer: &Linear<384, 24>,
        input: &Quantized<384>,
        output: &mut [Row<24>],
    ) {
        unsafe { (self.table.narrow)(layer, input, output) }
    }
}

#[cfg(test)]
mod tests;
