//! Reads the credentials of a request from its headers.

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::config::HttpConfig;
use super::headers::text;
use super::problem::Problem;
use crate::context::{Credentials, Signed};
use crate::front::port::WebPeer;

/// Reads the credentials in the headers, if there are any. `Basic` has the access key and the secret key, joined by a colon, in
/// base64. `Bearer` has the same, or a session token.
pub(super) fn read(
    headers: &HeaderMap,
    peer: &WebPeer,
    config: &HttpConfig,
) -> Result<Option<Credentials>, Problem> {
    let Some(authorization) = text(headers, &AUTHORIZATION)? else { return Ok(None) };
    let private = peer.encrypted || peer.address.ip().to_canonical().is_loopback();
    if !private && !config.plaintext_credentials {
        return refuse("credentials are accepted over TLS only (http.plaintext_credentials)");
    }
    let (scheme, encoded) = authorization.split_once(' ').unwrap_or((authorization, ""));
    if !["Basic", "Bearer"].iter().any(|known| known.eq_ignore_ascii_case(scheme)) {
        return refuse("the authorization must be Basic or Bearer");
    }
    // A JWT contains dots, and base64 does not.
    if scheme.eq_ignore_ascii_case("Bearer") && encoded.contains('.') {
        return Ok(Some(Credentials {
            authorization: String::new(),
            signed: Signed::Token,
            session_token: encoded.trim().to_owned(),
        }));
    }
    let decoded = STANDARD.decode(encoded.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let Some((user, secret)) = decoded.as_deref().and_then(|text| text.split_once(':')) else {
        return refuse("the authorization must be ACCESS_KEY:SECRET_KEY in base64");
    };
    let (user, secret) = (user.to_owned(), secret.to_owned());
    Ok(Some(Credentials {
        authorization: String::new(),
        signed: Signed::Nothing { user, secret },
        session_token: String::new(),
    }))
}

fn refuse<T>(detail: &str) -> Result<T, Problem> {
    Err(Problem::http(StatusCode::UNAUTHORIZED, detail))
}
