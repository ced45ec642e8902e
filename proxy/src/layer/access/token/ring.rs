//! Verifies the signatures of tokens with ring, so that `jsonwebtoken` brings no second implementation of cryptography.

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result, new_error};
use jsonwebtoken::signature::{Error, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use ring::signature::{self as ring_signature, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(new_error(ErrorKind::UnsupportedAlgorithm)),
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes `jsonwebtoken` use ring. Only the first call in a process has an effect.
pub(super) fn install() {
    let _ = PROVIDER.install_default();
}

struct RingVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

/// Creates a verifier. Fails if the key is not suitable for the algorithm.
fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    if key.family() != algorithm.family() {
        return Err(new_error(ErrorKind::InvalidAlgorithm));
    }
    Ok(Box::new(RingVerifier { algorithm: *algorithm, key: key.clone() }))
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        let rsa: &RsaParameters = match self.algorithm {
            Algorithm::ES256 => {
                return self.verify_with_point(&ring_signature::ECDSA_P256_SHA256_FIXED, message, signature);
            }
            Algorithm::ES384 => {
                return self.verify_with_point(&ring_signature::ECDSA_P384_SHA384_FIXED, message, signature);
            }
            Algorithm::EdDSA => return self.verify_with_point(&ring_signature::ED25519, message, signature),
            Algorithm::RS256 => &ring_signature::RSA_PKCS1_2048_8192_SHA256,
            Algorithm::RS384 => &ring_signature::RSA_PKCS1_2048_8192_SHA384,
            Algorithm::RS512 => &ring_signature::RSA_PKCS1_2048_8192_SHA512,
            Algorithm::PS256 => &ring_signature::RSA_PSS_2048_8192_SHA256,
            Algorithm::PS384 => &ring_signature::RSA_PSS_2048_8192_SHA384,
            Algorithm::PS512 => &ring_signature::RSA_PSS_2048_8192_SHA512,
            _ => return Err(Error::new()),
        };
        let DecodingKeyKind::RsaModulusExponent { n, e } = self.key.kind() else { return Err(Error::new()) };
        // ring accepts no leading zeros, and DER has one before a modulus.
        let components = RsaPublicKeyComponents { n: without_zeros(n), e: without_zeros(e) };
        components.verify(rsa, message, signature).map_err(|_| Error::new())
    }
}

impl RingVerifier {
    /// Verifies with a key on an elliptic curve.
    fn verify_with_point(
        &self,
        algorithm: &'static dyn ring_signature::VerificationAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> std::result::Result<(), Error> {
        let key = self.key.try_get_as_bytes().map_err(|_| Error::new())?;
        UnparsedPublicKey::new(algorithm, key).verify(message, signature).map_err(|_| Error::new())
    }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    &number[number.iter().take_while(|byte| **byte == 0).count()..]
}
