//! Which instruction set the kernels run on.
//!
//! The choice changes speed only: every instruction set gives the same bits, which the crate's
//! tests prove on each one that the machine has.

use std::fmt;

/// An instruction set with its own kernels, best first in [`Isa::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// 512-bit vectors with byte dot products (`vpdpbusd` on 64 bytes).
    Avx512Vnni,
    /// 256-bit vectors with byte dot products (`vpdpbusd` on 32 bytes).
    AvxVnni,
    /// 256-bit vectors; byte products are widened to 16 bits.
    Avx2,
    /// Plain Rust on any CPU: slow, and the oracle for the others.
    Scalar,
}

impl Isa {
    /// Every instruction set, fastest first.
    pub const ALL: [Isa; 4] = [Isa::Avx512Vnni, Isa::AvxVnni, Isa::Avx2, Isa::Scalar];

    /// Gives the fastest instruction set of this CPU.
    pub fn best() -> Isa {
        let found = Isa::ALL.into_iter().find(|isa| isa.is_supported());
        found.unwrap_or(Isa::Scalar)
    }

    /// Gives every instruction set of this CPU, fastest first; the last is always `Scalar`.
    pub fn supported() -> Vec<Isa> {
        Isa::ALL
            .into_iter()
            .filter(|isa| isa.is_supported())
            .collect()
    }

    /// Says whether this CPU can run the kernels of this instruction set.
    #[cfg(target_arch = "x86_64")]
    pub fn is_supported(self) -> bool {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        match self {
            Isa::Avx512Vnni => {
                avx2 && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vnni")
            }
            Isa::AvxVnni => avx2 && is_x86_feature_detected!("avxvnni"),
            Isa::Avx2 => avx2,
            Isa::Scalar => true,
        }
    }

    /// Says whether this CPU can run the kernels of this instruction set.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn is_supported(self) -> bool {
        self == Isa::Scalar
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Isa::Avx512Vnni => "avx512-vnni",
            Isa::AvxVnni => "avx-vnni",
            Isa::Avx2 => "avx2",
            Isa::Scalar => "scalar",
        })
    }
}
