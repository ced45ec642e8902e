//! Checks the origin of requests from web pages. Browsers send simple requests, such as a POST of plain text, for pages of any
//! origin, and only withhold the answer from the page. They send the origin in a header.

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode, Uri};

use super::config::HttpConfig;
use super::problem::Problem;

/// Refuses requests from pages of another origin, unless the configuration allows it.
pub(super) fn check(headers: &HeaderMap, uri: &Uri, config: &HttpConfig) -> Result<(), Problem> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let allowed =
        config.cors_origins.iter().any(|allowed| allowed == "*" || allowed.as_bytes() == origin.as_bytes());
    let own = |origin: &str| {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        // HTTP/2 has the host in the URI.
        let host = host.or_else(|| uri.authority().map(|authority| authority.as_str()));
        origin.split_once("://").is_some_and(|(_, authority)| Some(authority) == host)
    };
    if allowed || origin.to_str().is_ok_and(own) {
        return Ok(());
    }
    let detail = "requests from web pages of this origin are not allowed (http.cors_origins)";
    Err(Problem::http(StatusCode::FORBIDDEN, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_origins_are_refused_unless_they_are_allowed() {
        let may = |origin: Option<&'static str>, allowed: &[&str]| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, "mq.example:8081".parse().expect("a header"));
            if let Some(origin) = origin {
                headers.insert(ORIGIN, origin.parse().expect("a header"));
            }
            let cors_origins = allowed.iter().map(|origin| (*origin).to_owned()).collect();
            let config = HttpConfig { cors_origins, ..HttpConfig::default() };
            let as_http1 = check(&headers, &Uri::from_static("/"), &config).is_ok();
            headers.remove(HOST);
            let as_http2 = check(&headers, &Uri::from_static("http://mq.example:8081/"), &config).is_ok();
            assert_eq!(as_http1, as_http2);
            as_http1
        };
        assert!(may(None, &[]));
        assert!(may(Some("http://mq.example:8081"), &[]));
        for origin in ["https://shop.example", "null", "http://mq.example", "mq.example:8081"] {
            assert!(!may(Some(origin), &[]), "{origin}");
            assert!(!may(Some(origin), &["https://other.example"]), "{origin}");
            assert!(may(Some(origin), &["*"]), "{origin}");
            assert!(may(Some(origin), &[origin]), "{origin}");
        }
    }
}
