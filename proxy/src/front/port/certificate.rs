//! Reads the names in a client's certificate.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// The maximum number of names that are read from a certificate.
const MAX_NAMES: usize = 32;

/// The names in a certificate: its DNS names, mail addresses and URIs, then the common name of its subject. Empty if
/// the certificate can't be read.
pub(super) fn names(der: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Vec::new() };
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let alternative = alternative.iter().flat_map(|names| &names.value.general_names);
    let alternative = alternative.filter_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => Some(*name),
        _ => None,
    });
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    alternative.chain(common).take(MAX_NAMES).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternative_names_come_before_the_common_name() {
        let mut parameters =
            rcgen::CertificateParams::new(["billing.example.com".to_owned()]).expect("a name");
        let uri = "spiffe://example.com/billing".try_into().expect("ASCII");
        parameters.subject_alt_names.push(rcgen::SanType::URI(uri));
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "billing");
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        let expected = ["billing.example.com", "spiffe://example.com/billing", "billing"];
        assert_eq!(names(certificate.der()), expected);
        assert!(names(&certificate.der()[..20]).is_empty());
    }
}
