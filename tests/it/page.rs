//! What the page in the browser is made of: its files, and who is shown what.

use std::net::{Ipv4Addr, SocketAddr};

use fleet_bridge::{AccessToken, Config, MatchSettings, Scope, Server};
use mock_fleet::World;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

const FLEET_TOKEN: &str = "local-development-token";

/// A bridge with tokens, before a Fleet of its own.
struct Stack {
    http: Client,
    base: String,
}

impl Stack {
    async fn start(adjust: impl FnOnce(&mut Config)) -> Self {
        let config = mock_fleet::Config::new(World::default_world());
        let fleet = mock_fleet::Server::bind(config).await.expect("a fleet");
        let url = fleet.base_url();
        tokio::spawn(fleet.run(std::future::pending()));
        let mut config = Config::new(1, &url, FLEET_TOKEN).expect("settings");
        config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        config.matches = Some(MatchSettings::default());
        config.tokens = [("read", Scope::Read), ("write", Scope::Write)]
            .map(|(name, scope)| AccessToken {
                name: name.to_owned(),
                scope,
                secret: name.to_owned(),
            })
            .into();
        adjust(&mut config);
        let server = Server::bind(config).await.expect("a bridge");
        let base = server.base_url();
        tokio::spawn(server.run(std::future::pending()));
        let http = Client::builder().no_proxy().build().expect("a client");
        Self { http, base }
    }

    async fn call(&self, method: Method, path: &str, token: Option<&str>) -> Response {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request.send().await.expect("an answer")
    }

    async fn get(&self, path: &str, token: Option<&str>) -> (u16, Value) {
        let response = self.call(Method::GET, path, token).await;
        let status = response.status().as_u16();
        (status, response.json().await.expect("JSON"))
    }

    async fn access(&self, token: Option<&str>) -> Value {
        let (status, mut access) = self.get("/v1/access", token).await;
        assert_eq!(status, 200);
        access["access"].take()
    }

    async fn servers(&self, token: Option<&str>) -> Vec<Value> {
        let (status, mut overview) = self.get("/v1/overview", token).await;
        assert_eq!(status, 200, "{overview}");
        let servers = overview["servers"].as_array_mut().expect("a list");
        assert!(!servers.is_empty());
        std::mem::take(servers)
    }
}

#[tokio::test]
async fn the_page_is_open_and_what_it_shows_is_not() {
    let bridge = Stack::start(|_| {}).await;
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/room", "text/html; charset=utf-8"),
        ("/web/overview.js", "text/javascript; charset=utf-8"),
        ("/web/style.css", "text/css; charset=utf-8"),
        ("/web/icon.svg", "image/svg+xml"),
    ] {
        let response = bridge.call(Method::GET, path, None).await;
        assert_eq!(response.status(), 200, "{path}");
        let headers = response.headers();
        assert_eq!(headers["content-type"], content_type);
        assert_eq!(headers["x-content-type-options"], "nosniff");
        let policy = headers["content-security-policy"].to_str().expect("text");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"));
    }
    assert_eq!(bridge.access(None).await, "none");
    assert_eq!(bridge.access(Some("wrong")).await, "none");
    assert_eq!(bridge.access(Some("read")).await, "read");
    assert_eq!(bridge.access(Some("write")).await, "write");
    for path in ["/v1/overview", "/v1/voice/nodes", "/web/other.js", "/web"] {
        assert_eq!(bridge.get(path, None).await.0, 401, "{path}");
    }
    assert_eq!(bridge.get("/web/other.js", Some("read")).await.0, 404);
    let shown = bridge.servers(Some("read")).await;
    assert!(shown.iter().any(|server| server["address"].is_string()));
}

#[tokio::test]
async fn visitors_see_servers_without_addresses_and_nothing_else() {
    let bridge = Stack::start(|config| config.page.public = true).await;
    assert_eq!(bridge.access(None).await, "look");
    assert_eq!(bridge.access(Some("wrong")).await, "none");
    for server in bridge.servers(None).await {
        assert_eq!(
            (&server["address"], &server["port"]),
            (&Value::Null, &Value::Null)
        );
        assert!(server["city"].is_string());
    }
    assert_eq!(
        bridge.get("/v1/voice/nodes", None).await,
        (200, json!({"metered": [], "reported": []}))
    );
    assert_eq!(bridge.get("/v1/overview", Some("wrong")).await.0, 401);
    for path in ["/v1/matches", "/v1/instances", "/v1/events", "/metrics"] {
        assert_eq!(bridge.get(path, None).await.0, 401, "{path}");
    }
    for (method, path) in [
        (Method::POST, "/v1/overview"),
        (Method::POST, "/v1/matches"),
        (Method::POST, "/v1/voice/connect"),
        (Method::DELETE, "/v1/instances/101"),
    ] {
        let status = bridge.call(method, path, None).await.status();
        assert_eq!(status, 401, "{path}");
    }
    let connect = bridge.call(Method::POST, "/v1/voice/connect", Some("read"));
    assert_eq!(connect.await.status(), 403);
}

#[tokio::test]
async fn a_page_that_is_switched_off_is_not_there() {
    let bridge = Stack::start(|config| config.page.enabled = false).await;
    for path in ["/", "/room", "/web/style.css"] {
        assert_eq!(bridge.get(path, Some("write")).await.0, 404, "{path}");
    }
    assert!(!bridge.servers(Some("read")).await.is_empty());
}
