//! The JSON Web Key Set that an issuer publishes, fetched over HTTP.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HeaderValue, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::MAX_KEYS_FILE;
use super::keys::{self, Key};
use crate::error::causes;

/// How often the set is fetched.
const EVERY: Duration = Duration::from_secs(5 * 60);
/// The least time between two fetches, whatever tokens strangers send.
const PAUSE: Duration = Duration::from_secs(5);
/// How long a fetch may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long keys stay in force while no fetch succeeds. An issuer can't withdraw a key in that time.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Where a set of keys is published.
pub(super) struct KeySet {
    address: Uri,
}

impl KeySet {
    /// The set at this address.
    ///
    /// # Errors
    /// What is wrong with the address. Without TLS others could send keys of their own, unless the issuer is on this machine.
    pub(super) fn at(url: &str) -> Result<Self, String> {
        let address: Uri = url.parse().map_err(|error| format!("{url:?} is no address: {error}"))?;
        let host = address.host().unwrap_or_default();
        match address.scheme_str() {
            Some("https") if !host.is_empty() => Ok(Self { address }),
            Some("http") if is_loopback(host) => Ok(Self { address }),
            Some("http") => {
                Err(format!("{url} is not encrypted, so that others could send keys of their own"))
            }
            _ => Err(format!("{url:?} is no https address")),
        }
    }

    /// The keys in the set.
    ///
    /// # Errors
    /// Why there are none.
    async fn fetch(&self) -> Result<Vec<Key>, String> {
        let fetched = timeout(TIMEOUT, self.read()).await;
        let text = fetched.map_err(|_| format!("there is no answer within {} s", TIMEOUT.as_secs()))??;
        keys::published(&text)
    }

    async fn read(&self) -> Result<String, String> {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = self.address.clone();
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/jwk-set+json, application/json"));
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("rocketmq-thin-proxy/", env!("CARGO_PKG_VERSION"))),
        );
        let answer = client()?.request(request).await.map_err(|error| causes(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(format!("the answer is {}", answer.status()));
        }
        let limit = usize::try_from(MAX_KEYS_FILE).unwrap_or(usize::MAX);
        let body = Limited::new(answer.into_body(), limit).collect().await;
        let body =
            body.map_err(|error| format!("the answer broke off, or is longer than {limit} bytes: {error}"))?;
        String::from_utf8(body.to_bytes().into()).map_err(|_| "the answer is no text".to_owned())
    }
}

/// A client for one request: the next one is minutes away. It trusts whom the system trusts now.
fn client() -> Result<Client<HttpsConnector<HttpConnector>, Empty<Bytes>>, String> {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let tls = HttpsConnectorBuilder::new().with_provider_and_native_roots(ring);
    let tls =
        tls.map_err(|error| format!("the certificates that this machine trusts can't be read: {error}"))?;
    Ok(Client::builder(TokioExecutor::new()).build(tls.https_or_http().enable_http1().build()))
}

/// Fetches the set again and again, and at once when a key is missing. `hand_over` gets the keys whenever they are others.
pub(super) async fn follow(set: KeySet, issuer: &str, missing_key: &Notify, hand_over: impl Fn(Vec<Key>)) {
    let mut known: Vec<Key> = Vec::new();
    let mut put = |keys: Vec<Key>| {
        if keys.len() != known.len() || !keys.iter().zip(&known).all(|(key, known)| key.is_like(known)) {
            tracing::info!(issuer, keys = keys.len(), "the keys of an issuer have changed");
            known.clone_from(&keys);
            hand_over(keys);
        }
    };
    let (mut fetched, mut failing) = (Instant::now(), false);
    loop {
        let wait = match set.fetch().await {
            Ok(keys) => {
                (fetched, failing) = (Instant::now(), false);
                put(keys);
                EVERY
            }
            Err(reason) => {
                // Once: an issuer may be away for long.
                if !failing {
                    tracing::error!(issuer, url = %set.address, reason, "the keys of an issuer can't be fetched");
                }
                failing = true;
                if fetched.elapsed() > KEPT {
                    put(Vec::new());
                }
                PAUSE
            }
        };
        sleep(PAUSE).await;
        tokio::select! {
            () = sleep(wait.saturating_sub(PAUSE)) => {}
            () = missing_key.notified() => {}
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// What a fetch from somebody who answers this, and then closes the connection, brings.
    async fn fetched(answer: String) -> Result<usize, String> {
        let issuer = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let set =
            KeySet::at(&format!("http://{}/keys", issuer.local_addr().expect("bound"))).expect("an address");
        let answering = async {
            let (mut socket, _) = issuer.accept().await.expect("a connection");
            let mut request = [0; 1024];
            let _ = socket.read(&mut request).await;
            let _ = socket.write_all(answer.as_bytes()).await;
        };
        tokio::join!(set.fetch(), answering).0.map(|keys| keys.len())
    }

    fn answer(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nlocation: /other\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn what_is_no_set_of_keys_is_refused() {
        let set =
            r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        assert_eq!(fetched(answer("200 OK", set)).await, Ok(1));
        // An issuer that publishes no key has withdrawn all.
        for none in [r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#] {
            assert_eq!(fetched(answer("200 OK", none)).await, Ok(0));
        }
        for (answer, reason) in [
            (answer("302 Found", set), "the answer is 302"),
            (answer("500 Internal Server Error", set), "the answer is 500"),
            (answer("200 OK", "<html>"), "no JSON Web Key Set"),
            (answer("200 OK", &" ".repeat(2 << 20)), "longer than"),
            ("SSH-2.0-OpenSSH\r\n".to_owned(), "invalid HTTP"),
            (String::new(), "connection closed"),
            (answer("200 OK", set).replace("Ro", ""), "broke off"),
        ] {
            let refused = fetched(answer).await.expect_err(reason);
            assert!(refused.contains(reason), "{refused}");
        }
    }

    #[test]
    fn an_address_without_tls_is_for_this_machine_only() {
        let accepted = |url| KeySet::at(url).map(drop);
        for url in
            ["https://login.example/keys", "http://localhost:80/k", "http://127.0.0.1/k", "http://[::1]:1/k"]
        {
            assert_eq!(accepted(url), Ok(()), "{url}");
        }
        for url in [
            "",
            "login.example/keys",
            "http://login.example/k",
            "http://127.0.0.1.example/k",
            "file:///k",
            "https:///k",
        ] {
            assert!(accepted(url).is_err(), "{url}");
        }
    }
}
