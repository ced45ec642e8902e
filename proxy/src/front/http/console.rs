//! Serves the console: a web page for administrators, which calls the administration of this front end as any other client.
//!
//! The page consists of HTML, CSS and JavaScript modules in `console/`, which are embedded unchanged. The files contain no data
//! and grant no rights: each request of the page has the credentials that the administrator has entered, and the handlers of
//! administration authorize it.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;

use super::problem::Problem;
use super::shared::Shared;

/// The content security policy. Messages may be hostile: even a text that was inserted into the page by mistake could not run,
/// nor send data to other servers.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      form-action 'none'; base-uri 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    // Revalidated at each load, so that all files are of the same version.
    (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
];

/// The names and contents of these files.
macro_rules! assets {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("console/", $name)))),*]
    };
}

const INDEX: &str = "index.html";
const ASSETS: &[(&str, &str)] = &assets![
    "api.js",
    "app.js",
    "dialog.js",
    "dom.js",
    "form.js",
    "format.js",
    "icon.svg",
    "index.html",
    "style.css",
    "table.js",
    "views/settings-panel.js",
    "views/body.js",
    "views/clients.js",
    "views/dead-letters.js",
    "views/group-form.js",
    "views/group.js",
    "views/groups.js",
    "views/message.js",
    "views/messages.js",
    "views/overview.js",
    "views/quotas.js",
    "views/sign-in.js",
    "views/topic-form.js",
    "views/topic.js",
    "views/topics.js",
    "views/user-form.js",
    "views/users.js",
];

/// The routes of the console.
pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/console", get(async || Redirect::permanent("/console/")))
        .route("/console/", get(async || file(INDEX)))
        .route("/console/{*path}", get(async |Path(path): Path<String>| file(&path)))
}

fn file(name: &str) -> Response {
    let Some((name, content)) = ASSETS.iter().find(|(known, _)| *known == name) else {
        return Problem::http(StatusCode::NOT_FOUND, "the console has no file of this name").into_response();
    };
    (HEADERS, [(header::CONTENT_TYPE, media_type(name))], *content).into_response()
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.') {
        Some((_, "html")) => "text/html; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/front/http/console");
        let mut folders = vec![std::path::PathBuf::from(folder)];
        let mut there = Vec::new();
        while let Some(next) = folders.pop() {
            for entry in std::fs::read_dir(next).expect("a folder") {
                let path = entry.expect("an entry").path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => there.push(path.strip_prefix(folder).expect("a prefix").display().to_string()),
                }
            }
        }
        there.sort_unstable();
        let mut served: Vec<_> = ASSETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        served.sort_unstable();
        assert_eq!(served, there);
        for (name, _) in ASSETS {
            assert_ne!(media_type(name), "application/octet-stream", "{name}");
        }
    }
}
