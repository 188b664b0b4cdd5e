//! Signatures of tokens by ring, the one provider of cryptography in this program.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature::{self, Ed25519KeyPair, RsaPublicKeyComponents, UnparsedPublicKey};
use signature_traits::{Signer, Verifier};

use ::signature as signature_traits;

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes the library sign and verify by ring. Has no effect after the first time.
pub(crate) fn install() {
    let _ = PROVIDER.install_default();
}

/// Verifies by one public key and one algorithm.
struct Verifies {
    algorithm: Algorithm,
    key: DecodingKeyKind,
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    let fits = match (algorithm, key.kind()) {
        (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(bytes)) => bytes.len() == 32,
        (Algorithm::ES256, DecodingKeyKind::SecretOrDer(bytes)) => bytes.len() == 65,
        (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { .. }) => true,
        _ => false,
    };
    let family = match algorithm {
        Algorithm::EdDSA | Algorithm::ES256 | Algorithm::RS256 => algorithm.family(),
        _ => return Err(ErrorKind::InvalidAlgorithm.into()),
    };
    if !fits || family != key.family() {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    Ok(Box::new(Verifies {
        algorithm: *algorithm,
        key: key.kind().clone(),
    }))
}

impl Verifier<Vec<u8>> for Verifies {
    fn verify(&self, message: &[u8], signed: &Vec<u8>) -> Result<(), signature_traits::Error> {
        let verified =
            match &self.key {
                DecodingKeyKind::RsaModulusExponent { n, e } => RsaPublicKeyComponents { n, e }
                    .verify(&signature::RSA_PKCS1_2048_8192_SHA256, message, signed),
                DecodingKeyKind::SecretOrDer(key) if self.algorithm == Algorithm::EdDSA => {
                    UnparsedPublicKey::new(&signature::ED25519, key).verify(message, signed)
                }
                DecodingKeyKind::SecretOrDer(key) => {
                    UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, key)
                        .verify(message, signed)
                }
            };
        verified.map_err(|_| signature_traits::Error::new())
    }
}

impl JwtVerifier for Verifies {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

/// Signs by an Ed25519 key; others are not minted here.
struct Signs(Ed25519KeyPair);

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    if *algorithm != Algorithm::EdDSA {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.as_bytes())
        .map_err(|_| Error::from(ErrorKind::InvalidEddsaKey))?;
    Ok(Box::new(Signs(pair)))
}

impl Signer<Vec<u8>> for Signs {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature_traits::Error> {
        Ok(self.0.sign(message).as_ref().to_vec())
    }
}

impl JwtSigner for Signs {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}
