//! Credentials of all kinds, sent to a running proxy with access control.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use rocketmq_thin_proxy::config::Config;
use rocketmq_thin_proxy::layer::{AccessFile, IssuerConfig, NewUser, Secret, StoredAcl};
use serde_json::json;
use sha1::Sha1;
use tempfile::TempDir;

const ISSUER: &str = "https://login.example/";
/// Stands between the parts of an input.
const SEPARATOR: u8 = b'\n';

/// Someone who knows the secret of the user `admin`, and the key of an issuer of tokens.
pub(crate) struct Signer {
    secret: String,
    key: EcdsaKeyPair,
    random: SystemRandom,
    folder: TempDir,
}

/// Credentials, by the protocol that carries them.
pub(crate) enum Credentials {
    /// The values of these headers.
    Grpc([(&'static str, Vec<u8>); 3]),
    /// The value of `authorization`.
    Http(Vec<u8>),
    /// The values of these fields.
    Classic([(&'static str, String); 3]),
}

impl Signer {
    pub(crate) fn new() -> Self {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &random);
        let (_, secret) = Secret::random();
        Self { secret, key: key.expect("a key"), random, folder: tempfile::tempdir().expect("a folder") }
    }

    /// Turns on access control.
    pub(crate) fn configure(&self, config: &mut Config) {
        let file = AccessFile::new(&self.folder.path().join("access.toml"), None);
        let mut acl = StoredAcl::default();
        let admin = NewUser { secret: Some(Secret::new(&self.secret)), ..NewUser::admin() };
        acl.add_user(admin, &file.key().expect("a key")).expect("a user");
        file.write(&acl).expect("written");
        let point = self.key.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|half| URL_SAFE_NO_PAD.encode(half));
        let keys = self.folder.path().join("keys.json");
        let set = json!({"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "kid": "k", "x": x, "y": y}]});
        std::fs::write(&keys, set.to_string()).expect("written");
        let issuer = json!({"issuer": ISSUER, "audiences": ["mq"], "keys_file": keys});
        config.access.issuers = vec![serde_json::from_value::<IssuerConfig>(issuer).expect("an issuer")];
        config.access.file = Some(file.path().to_owned());
        config.access.failures_per_minute = 0;
    }

    /// The credentials that an input stands for, and whether they are forged. The first byte chooses the kind.
    pub(crate) fn credentials(&self, input: &[u8]) -> Option<(Credentials, bool)> {
        let (choice, rest) = input.split_first()?;
        let part = |number: usize| rest.split(|byte| *byte == SEPARATOR).nth(number).unwrap_or_default();
        let text = |number| String::from_utf8_lossy(part(number)).into_owned();
        let grpc = |parts: [Vec<u8>; 3]| {
            let [authorization, date, token] = parts;
            let names = ["authorization", "x-mq-date-time", "x-mq-session-token"];
            let [a, b, c] = names;
            Credentials::Grpc([(a, authorization), (b, date), (c, token)])
        };
        Some(match choice % 6 {
            0 => (grpc([0, 1, 2].map(|number| part(number).to_vec())), true),
            1 => (Credentials::Http(rest.to_vec()), true),
            2 => (Credentials::Http(format!("Basic {}", STANDARD.encode(rest)).into_bytes()), true),
            3 => {
                let [user, signature, token] = [0, 1, 2].map(text);
                let fields = [("AccessKey", user), ("Signature", signature), ("SecurityToken", token)];
                (Credentials::Classic(fields), true)
            }
            4 => (Credentials::Http(format!("Bearer {}", self.token(part(0), part(1))).into_bytes()), false),
            _ => {
                let mac = Hmac::<Sha1>::new_from_slice(self.secret.as_bytes()).expect("HMAC takes any key");
                let signature = hex::encode(mac.chain_update(part(0)).finalize().into_bytes());
                let authorization =
                    format!("MQv2-HMAC-SHA1 Credential=admin, SignedHeaders=x, Signature={signature}");
                (grpc([authorization.into_bytes(), part(0).to_vec(), Vec::new()]), false)
            }
        })
    }

    /// A token that the proxy accepts.
    pub(crate) fn valid(&self) -> Credentials {
        let claims = json!({"iss": ISSUER, "aud": "mq", "sub": "admin", "exp": 32_503_680_000_u64});
        let token = self.token(br#"{"alg":"ES256","kid":"k"}"#, claims.to_string().as_bytes());
        Credentials::Http(format!("Bearer {token}").into_bytes())
    }

    /// A token of the issuer.
    fn token(&self, header: &[u8], claims: &[u8]) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.key.sign(&self.random, signed.as_bytes()).expect("a signature");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
