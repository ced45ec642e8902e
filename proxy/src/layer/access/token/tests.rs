//! Tests which keys verify which tokens.

use super::*;

/// A key of 2048 bits for these tests. Its private half was deleted.
const MODULUS: &str = "\
    tsO4FbDd6h12oz1f1HRDGYwYmbqmGBxTEe0-Dh0b5zi3hBZfbquWhDU2LkfMef8id7wU5khMv_h3X6F1sFEJcRQWU-IiOWYzSa4m\
    uWC1Yhl4aqKEc984W0bB84WH-E13ySF27tR9r-C4_b07_3eIxG-UuzXbBZzc2B-wn2rMltmBLHwgfqFWaKvtOsAHasZ2XPAP6TSp\
    1NIQ7WSZMwpkHgbX5H11ThttwRthz4VIkOzBEFzU_e1vPMvEf2S0xETctCCdzmz3HS4SOMmEm8ADX8M8b_0nhf3BgdPAT2zYAvzH\
    WmWsceHRedOvZmpodgfwFEsO_eGC4NE5RfSgGgMwuw";
const PEM: &str = "\
    -----BEGIN PUBLIC KEY-----\n\
    MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAtsO4FbDd6h12oz1f1HRD\n\
    GYwYmbqmGBxTEe0+Dh0b5zi3hBZfbquWhDU2LkfMef8id7wU5khMv/h3X6F1sFEJ\n\
    cRQWU+IiOWYzSa4muWC1Yhl4aqKEc984W0bB84WH+E13ySF27tR9r+C4/b07/3eI\n\
    xG+UuzXbBZzc2B+wn2rMltmBLHwgfqFWaKvtOsAHasZ2XPAP6TSp1NIQ7WSZMwpk\n\
    HgbX5H11ThttwRthz4VIkOzBEFzU/e1vPMvEf2S0xETctCCdzmz3HS4SOMmEm8AD\n\
    X8M8b/0nhf3BgdPAT2zYAvzHWmWsceHRedOvZmpodgfwFEsO/eGC4NE5RfSgGgMw\n\
    uwIDAQAB\n\
    -----END PUBLIC KEY-----\n";
/// A token with the issuer <https://issuer.example>, the audience `mq` and the subject `alice`, which expires in 2100.
const RS256: &str = "\
    eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwiYXVkIjoibXEiLCJzdWI\
    iOiJhbGljZSIsImV4cCI6NDEwMjQ0NDgwMH0.oTQrjn9Dnhvohf4ocarLv0eUoUDVBHlJbBpMEJWPz6X9jUmoxBgtRDXU1QD7Elk\
    nJu0pdtdDZSOlwElRtUmcP2qLPhVVDQ1_fbW8a_Ise91RHGOwBYsETPF7IWc6Pv2oPD-8Hc1rhBMvZ54oCLyl0cWopAOv0I84NR0\
    3IQUknK5m8agpFfVogAEDs7DRLBD3itOsJDEtbyCILcMScyosMa_PMsHmeIUtT6Pv4Iui2LMo-Q1CL1duiEKRf1mc7i8tUrPWOcr\
    CVHvnJV8RTMUkc_fpwJvfc1D9JsTnk50eN4Utwgi0SaSYT5hcGiTMHk4r4dsQxYvoK5-B9M-5H5GCgg";
/// A token with the same payload.
const PS256: &str = "\
    eyJhbGciOiJQUzI1NiIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwiYXVkIjoibXEiLCJzdWI\
    iOiJhbGljZSIsImV4cCI6NDEwMjQ0NDgwMH0.C3ac3Ip0EcsZXVEUrUiP94C_C1EdknGPO6myFneDeEpteI1cUwgVJylA9txKd1W\
    iMpBbKhiLnNqwDMVTthgCOGC6EPe0zF28WNauBjbqhFezZC5Spo_tA_-cs7VWZLMgJfGUH8AJ9M0hfaJMRik6KqrKuz8E7TRcABU\
    fadvm4Thhiq13sUSWbAiiUSKZu6LWJvgOGgKACqiTuqEDDTYr4CKdCyd4D6CEJml2YyGJ5dVDXsdhmNZXN68lNb_85IB-gmWGRWe\
    vzGP6lsWAWwdxIV_ewzhOXwf7f0wboNEJcIefMrW9aTVbdOZoVS4iTFAU7WAW9jFsNdyTTQxtAiAOJQ";
/// A key of a type that is not supported.
const P521: &str = r#"{"kty":"EC","crv":"P-521","x":"AA","y":"AA"}"#;

fn rsa(more: &str) -> String {
    format!(r#"{{"kty":"RSA","n":"{MODULUS}","e":"AQAB"{more}}}"#)
}

fn set(keys: &[String]) -> String {
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

/// Verifies a token against this file of keys. Returns the user, or the error.
fn accepts(keys: &str, algorithms: &[&str], token: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let keys_file = folder.path().join("keys");
    fs::write(&keys_file, keys).expect("written");
    let config = IssuerConfig {
        issuer: "https://issuer.example".to_owned(),
        audiences: vec!["mq".to_owned()],
        keys_file: Some(keys_file),
        keys_url: None,
        algorithms: algorithms.iter().map(|name| (*name).to_owned()).collect(),
        leeway: Duration::ZERO,
        user_claim: "sub".to_owned(),
        user_prefix: "corp-".to_owned(),
    };
    assert!(IssuerConfig::mistakes(std::slice::from_ref(&config)).is_empty());
    let issuers = Issuers::open(&[config]).map_err(|error| error.to_string())?;
    let verified = issuers.verify(token, SystemTime::now()).map_err(|error| error.message)?;
    Ok(verified.user.clone())
}

#[test]
fn a_key_verifies_only_tokens_of_its_algorithms() {
    let alice = Ok("corp-alice".to_owned());
    for keys in [PEM.to_owned(), set(&[rsa("")]), set(&[P521.to_owned(), rsa(r#","use":"sig","kid":"rsa""#)])]
    {
        assert_eq!(accepts(&keys, &["RS256", "PS256"], RS256), alice, "{keys}");
        assert_eq!(accepts(&keys, &["PS256"], PS256), alice, "{keys}");
        assert!(accepts(&keys, &["ES256", "PS256"], RS256).is_err_and(|text| text.contains("not allowed")));
    }
    let unknown = |text: String| text.contains("an unknown key");
    for more in [r#","alg":"PS256""#, r#","kid":"another""#] {
        assert!(accepts(&set(&[rsa(more)]), &["RS256"], RS256).is_err_and(unknown), "{more}");
    }
}

#[test]
fn files_without_public_keys_are_refused() {
    let private = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let symmetric = set(&[r#"{"kty":"oct","k":"c2VjcmV0"}"#.to_owned(), rsa("")]);
    let many = set(&vec![rsa(""); 33]);
    for (keys, reason) in [
        ("", "no key"),
        ("{}", "not a JSON Web Key Set"),
        (r#"{"keys":[]}"#, "no key"),
        (&set(&[rsa(r#","use":"enc""#), P521.to_owned()]), "no key"),
        (&symmetric, "a symmetric key"),
        (private, "a private key"),
        (&PEM.replace("MII", "AAA"), "can't be parsed"),
        (&many, "33 keys"),
    ] {
        let refused = accepts(keys, &["RS256"], RS256).expect_err(keys);
        assert!(refused.contains(reason), "{refused}: {keys}");
    }
}

#[test]
fn certificates_and_ed25519_keys_are_accepted() {
    let ed25519 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key");
    let name = ["issuer.example".to_owned()];
    let certificate =
        rcgen::CertificateParams::new(name).expect("a name").self_signed(&p384).expect("signed");
    let file = format!("{}{}", ed25519.public_key_pem(), certificate.pem());
    let keys = keys::read(&file).expect("two keys");
    assert!(keys[0].fits(Some("any"), Algorithm::EdDSA) && !keys[0].fits(None, Algorithm::ES384));
    assert!(keys[1].fits(None, Algorithm::ES384) && !keys[1].fits(None, Algorithm::ES256));
}
