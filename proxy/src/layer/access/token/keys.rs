//! Parses the public keys of an issuer: a JSON Web Key Set, or PEM.

use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// The maximum size of a file of keys, and of a key set that is fetched, in bytes.
pub(super) const MAX_KEYS_FILE: u64 = 1 << 20;
/// The maximum number of keys of an issuer. A token without a key id is verified with each.
const MAX_KEYS: usize = 32;
/// The object identifier of Ed25519.
const ED25519: &str = "1.3.101.112";
/// The length of a point of P-256 and of P-384, uncompressed.
const P256_POINT: usize = 65;
const P384_POINT: usize = 97;

/// A public key.
#[derive(Clone)]
pub(super) struct Key {
    /// The key id, which tokens may contain. A key in PEM has none.
    id: Option<String>,
    pub(super) key: DecodingKey,
    /// The algorithms that the key is suitable for.
    algorithms: &'static [Algorithm],
    /// The only one of them that the issuer uses the key for, if it says so.
    only: Option<KeyAlgorithm>,
    /// Identifies the key.
    pub(super) digest: [u8; 32],
}

impl Key {
    /// Whether a token with this key id and algorithm may be signed with this key.
    pub(super) fn fits(&self, id: Option<&str>, algorithm: Algorithm) -> bool {
        let named = self.id.is_none() || id.is_none() || self.id.as_deref() == id;
        let only = self.only.is_none_or(|only| only == KeyAlgorithm::from(algorithm));
        named && only && self.algorithms.contains(&algorithm)
    }

    /// Whether both keys verify the same tokens.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.digest == other.digest && self.id == other.id && self.only == other.only
    }

    fn new(key: DecodingKey, algorithms: &'static [Algorithm]) -> Self {
        let digest = match key.kind() {
            DecodingKeyKind::SecretOrDer(bytes) => Sha256::digest(bytes),
            DecodingKeyKind::RsaModulusExponent { n, e } => {
                Sha256::new_with_prefix(n).chain_update(e).finalize()
            }
        };
        Self { id: None, key, algorithms, only: None, digest: digest.into() }
    }

    fn rsa(modulus: &[u8], exponent: &[u8]) -> Self {
        use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
        let key = DecodingKey::from_rsa_raw_components(modulus, exponent);
        Self::new(key, &[RS256, RS384, RS512, PS256, PS384, PS512])
    }

    fn of_point(point: &[u8]) -> Option<Self> {
        let algorithms: &[Algorithm] = match point.len() {
            P256_POINT => &[Algorithm::ES256],
            P384_POINT => &[Algorithm::ES384],
            _ => return None,
        };
        Some(Self::new(DecodingKey::from_ec_der(point), algorithms))
    }

    fn ed25519(bytes: &[u8]) -> Self {
        Self::new(DecodingKey::from_ed_der(bytes), &[Algorithm::EdDSA])
    }
}

/// Parses a file of keys. Keys for other purposes than signatures are left out.
///
/// # Errors
/// The text is malformed, or contains no usable key or too many.
pub(super) fn read(text: &str) -> Result<Vec<Key>, String> {
    let keys = if text.trim_start().starts_with('{') { of_set(text)? } else { of_pem(text)? };
    match keys.len() {
        0 => Err("it contains no key for a supported algorithm".to_owned()),
        1..=MAX_KEYS => Ok(keys),
        count => Err(format!("it contains {count} keys, more than {MAX_KEYS}")),
    }
}

/// Parses a set of keys that an issuer publishes. Unusable keys are left out, so that they can't delay the withdrawal of
/// other keys.
///
/// # Errors
/// The text is not a JSON Web Key Set.
pub(super) fn published(text: &str) -> Result<Vec<Key>, String> {
    let set = parse(text)?;
    let usable =
        set.keys.iter().filter(|jwk| is_for_signatures(jwk)).filter_map(|jwk| of_jwk(jwk).ok().flatten());
    Ok(usable.take(MAX_KEYS).collect())
}

fn parse(text: &str) -> Result<JwkSet, String> {
    serde_json::from_str(text).map_err(|error| format!("it is not a JSON Web Key Set: {error}"))
}

fn of_set(text: &str) -> Result<Vec<Key>, String> {
    let set = parse(text)?;
    let mut keys = Vec::new();
    for jwk in &set.keys {
        if let AlgorithmParameters::OctetKey(_) = jwk.algorithm {
            return Err(
                "it contains a symmetric key: a key that verifies tokens could also create them".to_owned()
            );
        }
        if is_for_signatures(jwk) {
            keys.extend(of_jwk(jwk)?);
        }
    }
    Ok(keys)
}

/// Whether a key is for signatures.
fn is_for_signatures(jwk: &Jwk) -> bool {
    let operations = jwk.common.key_operations.as_deref();
    matches!(&jwk.common.public_key_use, None | Some(PublicKeyUse::Signature))
        && operations.is_none_or(|operations| operations.contains(&KeyOperations::Verify))
}

/// Converts a key. `None` if its algorithm is not supported.
fn of_jwk(jwk: &Jwk) -> Result<Option<Key>, String> {
    let key = DecodingKey::from_jwk(jwk);
    let key = match &jwk.algorithm {
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve != EllipticCurve::Ed25519 => return Ok(None),
        AlgorithmParameters::Other(_) => return Ok(None),
        _ => key.map_err(|_| "it contains a key that is not base64".to_owned())?,
    };
    let made = match (&jwk.algorithm, key.kind()) {
        (_, DecodingKeyKind::RsaModulusExponent { n, e }) => Some(Key::rsa(n, e)),
        (AlgorithmParameters::OctetKeyPair(_), DecodingKeyKind::SecretOrDer(bytes)) => {
            Some(Key::ed25519(bytes))
        }
        (_, DecodingKeyKind::SecretOrDer(point)) => Key::of_point(point),
    };
    Ok(made.map(|key| Key { id: jwk.common.key_id.clone(), only: jwk.common.key_algorithm, ..key }))
}

fn of_pem(text: &str) -> Result<Vec<Key>, String> {
    let mut keys = Vec::new();
    for section in Pem::iter_from_buffer(text.as_bytes()) {
        let section =
            section.map_err(|error| format!("it is neither a JSON Web Key Set nor PEM: {error}"))?;
        let unreadable = || format!("it contains a {} that can't be parsed", section.label);
        let key = match section.label.as_str() {
            "PUBLIC KEY" => {
                let (_, info) =
                    SubjectPublicKeyInfo::from_der(&section.contents).map_err(|_| unreadable())?;
                of_info(&info)
            }
            "CERTIFICATE" => {
                let (_, certificate) =
                    X509Certificate::from_der(&section.contents).map_err(|_| unreadable())?;
                of_info(certificate.public_key())
            }
            label if label.contains("PRIVATE") => {
                return Err("it contains a private key: replace it with the public key".to_owned());
            }
            label => {
                return Err(format!(
                    "it contains a {label}, which is neither a PUBLIC KEY nor a CERTIFICATE"
                ));
            }
        };
        keys.extend(key);
    }
    Ok(keys)
}

fn of_info(info: &SubjectPublicKeyInfo<'_>) -> Option<Key> {
    if info.algorithm.algorithm.to_id_string() == ED25519 {
        return Some(Key::ed25519(&info.subject_public_key.data));
    }
    match info.parsed().ok()? {
        PublicKey::RSA(rsa) => Some(Key::rsa(rsa.modulus, rsa.exponent)),
        PublicKey::EC(point) => Key::of_point(point.data()),
        _ => None,
    }
}
