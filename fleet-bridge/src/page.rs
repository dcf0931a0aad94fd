//! The page in the browser: its files, which are part of the program. It knows nothing that a caller of the interface
//! does not know, and shows what the interface answers to its token.

use std::fmt::Write as _;

use axum::{
    Router,
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS,
    },
};
use sha2::{Digest as _, Sha256};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// What the overview may load: itself, and nothing of anybody else.
const OVERVIEW_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The voice room also connects to voice servers, wherever they are.
const ROOM_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self' https:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// A file of the page.
#[derive(Clone, Copy, Debug)]
struct File {
    path: &'static str,
    content_type: &'static str,
    text: &'static str,
    policy: &'static str,
}

const fn script(path: &'static str, text: &'static str) -> File {
    File {
        path,
        content_type: JAVASCRIPT,
        text,
        policy: OVERVIEW_POLICY,
    }
}

const FILES: [File; 17] = [
    File {
        path: "/",
        content_type: HTML,
        text: include_str!("../web/index.html"),
        policy: OVERVIEW_POLICY,
    },
    File {
        path: "/room",
        content_type: HTML,
        text: include_str!("../web/room.html"),
        policy: ROOM_POLICY,
    },
    File {
        path: "/web/style.css",
        content_type: CSS,
        text: include_str!("../web/style.css"),
        policy: OVERVIEW_POLICY,
    },
    File {
        path: "/web/icon.svg",
        content_type: SVG,
        text: include_str!("../web/icon.svg"),
        policy: OVERVIEW_POLICY,
    },
    script("/web/api.js", include_str!("../web/api.js")),
    script("/web/chart.js", include_str!("../web/chart.js")),
    script("/web/dom.js", include_str!("../web/dom.js")),
    script("/web/events.js", include_str!("../web/events.js")),
    script("/web/jitter.js", include_str!("../web/jitter.js")),
    script("/web/matches.js", include_str!("../web/matches.js")),
    script("/web/msgpack.js", include_str!("../web/msgpack.js")),
    script("/web/overview.js", include_str!("../web/overview.js")),
    script("/web/room.js", include_str!("../web/room.js")),
    script("/web/servers.js", include_str!("../web/servers.js")),
    script("/web/sound.js", include_str!("../web/sound.js")),
    script("/web/voice.js", include_str!("../web/voice.js")),
    script("/web/worklet.js", include_str!("../web/worklet.js")),
];

/// The paths of the page.
pub(crate) fn paths() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|file| file.path)
}

/// The routes of the page.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.into_iter().fold(Router::new(), |router, file| {
        let tag = tag(file.text);
        let answer = async move |headers: HeaderMap| file.answer(&tag, &headers);
        router.route(file.path, get(answer))
    })
}

impl File {
    /// The file, or word that the browser has it already: it is asked for each time, and sent when it is another.
    fn answer(self, tag: &HeaderValue, headers: &HeaderMap) -> Response {
        let security = [
            (
                CONTENT_SECURITY_POLICY,
                HeaderValue::from_static(self.policy),
            ),
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (
                PERMISSIONS_POLICY,
                HeaderValue::from_static("camera=(), geolocation=(), microphone=(self)"),
            ),
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (ETAG, tag.clone()),
        ];
        if headers.get(IF_NONE_MATCH) == Some(tag) {
            return (StatusCode::NOT_MODIFIED, security).into_response();
        }
        let content_type = [(CONTENT_TYPE, HeaderValue::from_static(self.content_type))];
        (security, content_type, self.text).into_response()
    }
}

fn tag(text: &str) -> HeaderValue {
    let mut tag = "\"".to_owned();
    for byte in Sha256::digest(text.as_bytes()).iter().take(16) {
        write!(tag, "{byte:02x}").expect("a text takes what is written to it");
    }
    tag.push('"');
    HeaderValue::try_from(tag).expect("hexadecimal digits in quotes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_the_browser_has_is_not_sent_again() {
        let file = FILES[0];
        let tag = tag(file.text);
        let mut headers = HeaderMap::new();
        let response = file.answer(&tag, &headers);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[ETAG], tag);
        assert_eq!(response.headers()[CACHE_CONTROL], "no-cache");
        headers.insert(IF_NONE_MATCH, tag.clone());
        assert_eq!(
            file.answer(&tag, &headers).status(),
            StatusCode::NOT_MODIFIED
        );
        headers.insert(IF_NONE_MATCH, HeaderValue::from_static("\"other\""));
        assert_eq!(file.answer(&tag, &headers).status(), StatusCode::OK);
    }

    #[test]
    fn what_a_file_names_is_a_file_of_the_page() {
        let mut named = 0;
        for file in FILES {
            for text in file.text.split("\"/web/").skip(1) {
                let name = text.split('"').next().unwrap();
                let path = format!("/web/{name}");
                assert!(paths().any(|known| known == path), "{}: {path}", file.path);
                named += 1;
            }
            for text in file.text.split("from './").skip(1) {
                let path = format!("/web/{}", text.split('\'').next().unwrap());
                assert!(paths().any(|known| known == path), "{}: {path}", file.path);
                named += 1;
            }
        }
        assert!(named > 10, "{named}");
    }

    #[test]
    fn no_file_has_what_its_policy_forbids() {
        for file in FILES.iter().filter(|file| file.content_type == HTML) {
            for forbidden in ["<style", "style=", " onclick", "http://", "https://"] {
                assert!(!file.text.contains(forbidden), "{}: {forbidden}", file.path);
            }
            for script in file.text.split("<script").skip(1) {
                assert!(script.starts_with(" type=\"module\" src="), "{}", file.path);
            }
        }
    }
}
