//! Lists from the bridge's own index: they show what the Fleet would have listed, page by page and filter by filter,
//! and say how old they are.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use fleet_bridge::{Config, Server};
use mock_fleet::{ApiVersion, FaultKind, World};
use reqwest::{Client, Response};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

const FLEET_TOKEN: &str = "local-development-token";

/// Longer than any test: a bridge whose index is only refreshed by who asks for it.
const NEVER: Duration = Duration::from_secs(60);

struct Stack {
    http: Client,
    fleet: String,
    control: SocketAddr,
    /// Answers from its index.
    indexed: String,
    /// Passes every call on.
    direct: String,
}

impl Stack {
    async fn start(servers: u32) -> Self {
        let mut config = mock_fleet::Config::new(world(servers));
        config.api = ApiVersion::V0_9_2;
        config.control_listen = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let fleet = mock_fleet::Server::bind(config).await.expect("a fleet");
        let control = fleet.control_addr().expect("controls");
        let base = fleet.base_url();
        tokio::spawn(fleet.run(std::future::pending()));
        Self {
            http: Client::builder().no_proxy().build().expect("a client"),
            indexed: bridge(&base, true).await,
            direct: bridge(&base, false).await,
            fleet: base,
            control,
        }
    }

    async fn list(&self, bridge: &str, parameters: &[(&str, &str)]) -> Response {
        let call = self.http.get(format!("{bridge}/v1/instances"));
        call.query(parameters).send().await.expect("an answer")
    }

    /// Ids on all pages.
    async fn walk(&self, bridge: &str, parameters: &[(&str, &str)]) -> Vec<u64> {
        let mut ids = Vec::new();
        let mut cursor = String::new();
        loop {
            let mut parameters = parameters.to_vec();
            parameters.push(("cursor", &cursor));
            let answer = self.list(bridge, &parameters).await;
            assert_eq!(answer.status(), 200, "{parameters:?}");
            let body: Value = answer.json().await.expect("JSON");
            ids.extend(self::ids(&body));
            cursor = body["next_cursor"].as_str().expect("a text").to_owned();
            if cursor.is_empty() {
                return ids;
            }
        }
    }

    /// Writes metadata past both bridges.
    async fn write(&self, id: u64, metadata: &Value) {
        let call = self
            .http
            .patch(format!("{}/v1/services/{id}/metadata", self.fleet));
        let call = call
            .bearer_auth(FLEET_TOKEN)
            .json(&json!({ "metadata": metadata }));
        let answer = call.send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
    }

    async fn fail(&self, kind: FaultKind) {
        let chance = json!({"kind": kind, "rate": 1.0});
        let plan = json!({"rules": [{"faults": [chance]}]});
        let call = self.http.put(format!("http://{}/faults", self.control));
        let answer = call.json(&plan).send().await.expect("an answer");
        assert_eq!(answer.status(), 204, "{:?}", answer.text().await);
    }
}

fn world(servers: u32) -> World {
    let mut world = World::default_world();
    for node in &mut world.nodes {
        node.capacity = 1_000;
    }
    let app = world.apps.first_mut().expect("an app");
    let setting = app.location_settings.first_mut().expect("a setting");
    setting.num_instances = servers;
    setting.services.clear();
    world
}

async fn bridge(fleet: &str, is_indexed: bool) -> String {
    let mut config = Config::new(1, fleet, FLEET_TOKEN).expect("settings");
    config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.index.enabled = is_indexed;
    config.index.refresh = NEVER;
    config.index.max_age = NEVER;
    config.retry.attempts_max = 1;
    let server = Server::bind(config).await.expect("a bridge");
    let base = server.base_url();
    tokio::spawn(server.run(std::future::pending()));
    base
}

fn ids(list: &Value) -> Vec<u64> {
    let instances = list["instances"].as_array().expect("a list").iter();
    let ids = instances.map(|instance| instance["id"].as_str().expect("a text").parse());
    ids.collect::<Result<_, _>>().expect("numbers")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_lists_what_the_fleet_would_list() {
    const SEED: u64 = 5;
    let stack = Stack::start(40).await;
    let mut random = fastrand::Rng::with_seed(SEED);
    let all = stack.walk(&stack.direct, &[]).await;
    assert!(all.len() >= 40, "{} servers", all.len());
    for id in &all {
        stack
            .write(*id, &Value::Object(metadata(&mut random, 2)))
            .await;
    }
    let mut found = 0;
    for number in 0..200 {
        let query = query(&mut random).to_string();
        let parameters = [("query", query.as_str()), ("limit", "7")];
        let direct = stack.walk(&stack.direct, &parameters).await;
        let age = if number == 0 { "0" } else { "60000" };
        let parameters = [parameters[0], parameters[1], ("max_age_ms", age)];
        let indexed = stack.walk(&stack.indexed, &parameters).await;
        assert_eq!(indexed, direct, "seed {SEED}: {query}");
        found += usize::from(!direct.is_empty() && direct.len() < all.len());
    }
    assert!(found > 40, "only {found} filters choose some and not all");
}

/// A few keys with few values, so that conditions often hold: scalars, arrays and objects.
fn metadata(random: &mut fastrand::Rng, depth: u32) -> Map<String, Value> {
    let keys = ["a", "b", "c", "d.e"];
    let chosen = keys
        .into_iter()
        .filter(|_| random.u8(..4) != 0)
        .collect::<Vec<_>>();
    let value = |key: &str, random: &mut fastrand::Rng| {
        let value = match random.u8(..6) {
            0 if depth > 0 => Value::Object(metadata(random, depth - 1)),
            1 => json!([scalar(random), scalar(random)]),
            _ => scalar(random),
        };
        (key.to_owned(), value)
    };
    chosen.into_iter().map(|key| value(key, random)).collect()
}

fn scalar(random: &mut fastrand::Rng) -> Value {
    let values = [
        json!(1),
        json!(1.0),
        json!("1"),
        json!(1.5),
        json!(true),
        json!(null),
        json!("idle"),
        json!("Grüße ✓"),
        json!(""),
    ];
    random.choice(values).expect("there are some")
}

fn query(random: &mut fastrand::Rng) -> Value {
    let mut query = json!({});
    if random.u8(..4) != 0 {
        let mut wanted = Map::new();
        for _ in 0..random.usize(1..=2) {
            let keys = ["a", "b", "c", "a.b", "b.a", "a.a.c", "d.e"];
            let key = random.choice(keys).expect("there are some");
            wanted.insert(key.to_owned(), scalar(random));
        }
        query["Metadata"] = Value::Object(wanted);
    }
    for (name, values) in [
        ("City", ["limburg", "ashburn"]),
        ("Country", ["germany", "de"]),
        ("Continent", ["europe", "asia"]),
    ] {
        if random.u8(..5) == 0 {
            query["Location"][name] = random.choice(values).into();
        }
    }
    if random.u8(..3) == 0 {
        query["Status"] = random.choice(["running", "stopped", "Running"]).into();
    }
    query
}

#[tokio::test]
async fn a_walk_over_the_index_neither_misses_nor_repeats_a_server_when_others_change() {
    let stack = Stack::start(30).await;
    let all = stack.walk(&stack.direct, &[]).await;
    for id in &all {
        stack.write(*id, &json!({"instance_state": "idle"})).await;
    }
    let mut seen: Vec<u64> = Vec::new();
    let mut taken = BTreeSet::new();
    let mut cursor = String::new();
    loop {
        let parameters = [
            ("state", "idle"),
            ("limit", "4"),
            ("max_age_ms", "0"),
            ("cursor", &cursor),
        ];
        let body: Value = stack
            .list(&stack.indexed, &parameters)
            .await
            .json()
            .await
            .expect("JSON");
        let ids = ids(&body);
        assert!(ids.len() <= 4);
        seen.extend(&ids);
        // The first of each page is taken, as a matchmaker would: by number, the next page would begin one too far.
        if let Some(id) = ids.first() {
            stack
                .write(*id, &json!({"instance_state": "occupied"}))
                .await;
            taken.insert(*id);
        }
        cursor = body["next_cursor"].as_str().expect("a text").to_owned();
        if cursor.is_empty() {
            break;
        }
    }
    assert_eq!(seen, all);
    let rest = stack
        .walk(&stack.indexed, &[("state", "idle"), ("max_age_ms", "0")])
        .await;
    let expected: Vec<_> = all.into_iter().filter(|id| !taken.contains(id)).collect();
    assert_eq!(rest, expected);
}

#[tokio::test]
async fn an_answer_says_how_old_it_is_and_a_younger_one_can_be_had() {
    let stack = Stack::start(3).await;
    let first = stack.list(&stack.indexed, &[("max_age_ms", "0")]).await;
    assert_eq!(first.status(), 200);
    let age = |answer: &Response| -> u64 {
        let age = answer.headers()["x-index-age-ms"].to_str().expect("text");
        age.parse().expect("a number")
    };
    let before = age(&first);
    assert!(before < 10_000, "{before}");
    let id = ids(&first.json().await.expect("JSON"))[0];
    let listed = async |max_age: &str| {
        let parameters = [("metadata", "mark=1"), ("max_age_ms", max_age)];
        let answer = stack.list(&stack.indexed, &parameters).await;
        ids(&answer.json().await.expect("JSON"))
    };
    stack.write(id, &json!({"mark": 1})).await;
    assert!(listed("60000").await.is_empty(), "an old answer will do");
    assert_eq!(listed("0").await, [id]);
    assert_eq!(listed("60000").await, [id], "the newest answer is kept");
    let direct = stack.list(&stack.direct, &[("max_age_ms", "0")]).await;
    assert!(!direct.headers().contains_key("x-index-age-ms"));
    // What passes through this bridge is known to it at once, and Get is never old.
    let path = format!("{}/v1/instances/{id}", stack.indexed);
    let update = json!({"metadata": {"mark": 2}});
    let answer = stack.http.patch(&path).json(&update).send().await;
    assert_eq!(answer.expect("an answer").status(), 200);
    assert!(listed("60000").await.is_empty());
    stack.write(id, &json!({"mark": 1})).await;
    let body: Value = stack
        .http
        .get(&path)
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    assert_eq!(body["metadata"]["mark"], 1);
    assert_eq!(
        listed("60000").await,
        [id],
        "the answer to Get is known too"
    );
}

#[tokio::test]
async fn while_the_fleet_is_away_what_is_young_enough_is_still_listed() {
    let stack = Stack::start(3).await;
    let listed = stack.walk(&stack.indexed, &[("max_age_ms", "0")]).await;
    assert!(!listed.is_empty());
    stack.fail(FaultKind::Internal).await;
    assert_eq!(stack.walk(&stack.indexed, &[]).await, listed);
    let answer = stack.list(&stack.indexed, &[("max_age_ms", "0")]).await;
    assert_eq!(answer.status(), 503);
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(body["kind"], "unavailable");
    assert_eq!(body["upstream_status"], 500);
    let metrics = stack
        .http
        .get(format!("{}/metrics", stack.indexed))
        .send()
        .await;
    let metrics = metrics.expect("an answer").text().await.expect("text");
    for line in [
        r#"bifrost_bridge_index_walks_total{outcome="ok"}"#,
        r#"bifrost_bridge_index_walks_total{outcome="unavailable"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    let age = metrics
        .lines()
        .find_map(|line| line.strip_prefix("bifrost_bridge_index_age_seconds "));
    let age: f64 = age.expect("an age").parse().expect("a number");
    assert!(age > 0.0, "{age}");
}

#[tokio::test]
async fn callers_that_wait_at_once_share_a_walk() {
    let stack = Stack::start(150).await;
    let walks = async || -> u64 {
        let metrics = stack
            .http
            .get(format!("{}/metrics", stack.indexed))
            .send()
            .await;
        let metrics = metrics.expect("an answer").text().await.expect("text");
        let line = metrics
            .lines()
            .find(|line| line.starts_with("bifrost_bridge_index_walks_total"));
        line.and_then(|line| line.rsplit_once(' '))
            .map_or(0, |(_, count)| count.parse().expect("a number"))
    };
    assert_eq!(
        stack
            .list(&stack.indexed, &[("max_age_ms", "0")])
            .await
            .status(),
        200
    );
    let before = walks().await;
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let call = stack
            .http
            .get(format!("{}/v1/instances?max_age_ms=0", stack.indexed));
        calls.spawn(call.send());
    }
    while let Some(answer) = calls.join_next().await {
        assert_eq!(answer.expect("no panic").expect("an answer").status(), 200);
    }
    let count = walks().await - before;
    assert!((1..25).contains(&count), "{count} walks for 50 calls");
}

#[tokio::test]
async fn a_cursor_of_the_other_way_of_listing_is_refused() {
    let stack = Stack::start(5).await;
    for (made, used) in [
        (&stack.indexed, &stack.direct),
        (&stack.direct, &stack.indexed),
    ] {
        let answer = stack.list(made, &[("limit", "1")]).await;
        let body: Value = answer.json().await.expect("JSON");
        let cursor = body["next_cursor"].as_str().expect("a text");
        assert!(!cursor.is_empty());
        let answer = stack
            .list(used, &[("limit", "1"), ("cursor", cursor)])
            .await;
        assert_eq!(answer.status(), 400);
        let body: Value = answer.json().await.expect("JSON");
        assert_eq!(body["kind"], "invalid_cursor");
    }
}
