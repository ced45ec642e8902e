//! Fetches the JSON Web Key Set that an issuer publishes over HTTP.

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

use super::keys::{self, Key, MAX_KEYS_FILE};
use crate::error::causes;

/// How often the set is fetched.
const FETCH_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// The least time between two fetches, so that forged tokens can't trigger more.
const MIN_FETCH_INTERVAL: Duration = Duration::from_secs(5);
/// How long a fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// How long keys stay in force while no fetch succeeds. An issuer can't withdraw a key in this time.
const MAX_KEY_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// A published set of keys.
pub(super) struct KeySet {
    url: Uri,
}

impl KeySet {
    /// The set at this URL. Plain HTTP is accepted only for an issuer on this machine: otherwise, others could inject keys.
    ///
    /// # Errors
    /// The URL is invalid; the text says why.
    pub(super) fn at(url: &str) -> Result<Self, String> {
        let parsed: Uri = url.parse().map_err(|error| format!("{url:?} is not a URL: {error}"))?;
        let host = parsed.host().unwrap_or_default();
        match parsed.scheme_str() {
            Some("https") if !host.is_empty() => Ok(Self { url: parsed }),
            Some("http") if is_loopback(host) => Ok(Self { url: parsed }),
            Some("http") => Err(format!(
                "{url} is not encrypted, so that others could inject keys; expected an https URL"
            )),
            _ => Err(format!("{url:?} is not an https URL")),
        }
    }

    /// Fetches the keys of the set.
    ///
    /// # Errors
    /// The fetch fails, or the answer is not a key set; the text says why.
    async fn fetch(&self) -> Result<Vec<Key>, String> {
        let fetched = timeout(FETCH_TIMEOUT, self.read()).await;
        let text = fetched.map_err(|_| format!("no answer within {} s", FETCH_TIMEOUT.as_secs()))??;
        keys::published(&text)
    }

    /// Fetches the text of the set.
    async fn read(&self) -> Result<String, String> {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = self.url.clone();
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
        String::from_utf8(body.to_bytes().into()).map_err(|_| "the answer is not UTF-8".to_owned())
    }
}

/// Creates a client for one request, as fetches are minutes apart. It loads the system's trusted certificates each time.
fn client() -> Result<Client<HttpsConnector<HttpConnector>, Empty<Bytes>>, String> {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let tls = HttpsConnectorBuilder::new().with_provider_and_native_roots(ring);
    let tls = tls.map_err(|error| format!("the system's trusted certificates can't be loaded: {error}"))?;
    Ok(Client::builder(TokioExecutor::new()).build(tls.https_or_http().enable_http1().build()))
}

/// Fetches the set periodically, and early when `missing_key` is notified. Calls `hand_over` whenever the keys have changed.
pub(super) async fn poll(set: KeySet, issuer: &str, missing_key: &Notify, hand_over: impl Fn(Vec<Key>)) {
    let mut known: Vec<Key> = Vec::new();
    let mut put = |keys: Vec<Key>| {
        if keys.len() != known.len() || !keys.iter().zip(&known).all(|(key, known)| key.is_same(known)) {
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
                FETCH_INTERVAL
            }
            Err(reason) => {
                // Logged once: an issuer may be unreachable for a long time.
                if !failing {
                    tracing::error!(issuer, url = %set.url, reason, "failed to fetch the keys of an issuer");
                }
                failing = true;
                if fetched.elapsed() > MAX_KEY_AGE {
                    put(Vec::new());
                }
                MIN_FETCH_INTERVAL
            }
        };
        sleep(MIN_FETCH_INTERVAL).await;
        tokio::select! {
            () = sleep(wait.saturating_sub(MIN_FETCH_INTERVAL)) => {}
            () = missing_key.notified() => {}
        }
    }
}

/// Whether a host is this machine.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Fetches from a server that sends this answer and closes the connection. Returns the number of keys.
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
    async fn an_answer_that_is_not_a_key_set_is_refused() {
        let set =
            r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        assert_eq!(fetched(answer("200 OK", set)).await, Ok(1));
        // An issuer that publishes no key has withdrawn all of them.
        for none in [r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#] {
            assert_eq!(fetched(answer("200 OK", none)).await, Ok(0));
        }
        for (answer, reason) in [
            (answer("302 Found", set), "the answer is 302"),
            (answer("500 Internal Server Error", set), "the answer is 500"),
            (answer("200 OK", "<html>"), "not a JSON Web Key Set"),
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
    fn plain_http_is_accepted_for_this_machine_only() {
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
