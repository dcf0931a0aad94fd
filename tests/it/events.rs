//! What happens to servers, as followers of `/v1/events` hear it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use fleet_bridge::{Config, Server};
use mock_fleet::World;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::{
    sync::oneshot,
    task::{JoinHandle, JoinSet},
};

const FLEET_TOKEN: &str = "local-development-token";

/// Longer than any test takes, shorter than what would look like a standstill.
const PATIENCE: Duration = Duration::from_secs(60);

/// A bridge that publishes, before a Fleet of its own.
struct Stack {
    http: Client,
    base: String,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<()>,
}

impl Stack {
    async fn start(adjust: impl FnOnce(&mut Config)) -> Self {
        let config = mock_fleet::Config::new(World::default_world());
        let fleet = mock_fleet::Server::bind(config).await.expect("a fleet");
        let url = fleet.base_url();
        tokio::spawn(fleet.run(std::future::pending()));
        let mut config = Config::new(1, &url, FLEET_TOKEN).expect("settings");
        config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        config.index.enabled = true;
        config.index.refresh = Duration::from_millis(100);
        adjust(&mut config);
        let server = Server::bind(config).await.expect("a bridge");
        let base = server.base_url();
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self {
            http: Client::builder().no_proxy().build().expect("a client"),
            base,
            stop: Some(stop),
            ended,
        }
    }

    fn events(&self, query: &str) -> RequestBuilder {
        self.http.get(format!("{}/v1/events{query}", self.base))
    }

    async fn follow(&self, query: &str) -> Stream {
        Stream::open(self.events(query)).await
    }

    async fn follow_after(&self, id: &str) -> Stream {
        Stream::open(self.events("").header("last-event-id", id)).await
    }

    async fn ids(&self) -> Vec<String> {
        let call = self.http.get(format!("{}/v1/instances", self.base));
        let list: Value = call
            .send()
            .await
            .expect("an answer")
            .json()
            .await
            .expect("JSON");
        let instances = list["instances"].as_array().expect("a list").iter();
        let ids = instances.map(|instance| instance["id"].as_str().expect("a text").to_owned());
        ids.collect()
    }

    /// Changes a server so that the change is told.
    async fn count_players(&self, id: &str, count: u64) {
        let call = self.http.patch(format!("{}/v1/instances/{id}", self.base));
        let call = call.json(&json!({"player_count": count}));
        assert_eq!(call.send().await.expect("an answer").status(), 200);
    }

    async fn metric(&self, name: &str) -> u64 {
        let call = self.http.get(format!("{}/metrics", self.base)).send();
        let text = call.await.expect("an answer").text().await.expect("text");
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.expect("the metric").trim().parse().expect("a number")
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Event {
    id: String,
    kind: String,
    data: Value,
}

impl Event {
    fn subject(&self) -> &str {
        self.data["subject"].as_str().expect("a subject")
    }

    fn players(&self) -> u64 {
        self.data["data"]["player_count"].as_u64().expect("a count")
    }
}

/// A client of server-sent events, as browsers are one.
struct Stream {
    response: Response,
    text: String,
    /// The last id that came, with an event or alone.
    id: String,
}

impl Stream {
    async fn open(call: RequestBuilder) -> Self {
        let response = call.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            response,
            text: String::new(),
            id: String::new(),
        }
    }

    /// The next block that is an event; `None` at the end.
    async fn next(&mut self) -> Option<Event> {
        let event = tokio::time::timeout(PATIENCE, self.event());
        event.await.expect("an event or an end in time")
    }

    async fn event(&mut self) -> Option<Event> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                if let Some(event) = self.read(&block) {
                    return Some(event);
                }
            }
            let chunk = self.response.chunk().await.expect("a whole answer")?;
            self.text
                .push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
        }
    }

    fn read(&mut self, block: &str) -> Option<Event> {
        let (mut kind, mut data) = (String::new(), None);
        for line in block.lines() {
            match line.split_once(": ") {
                Some(("id", id)) => id.clone_into(&mut self.id),
                Some(("event", text)) => text.clone_into(&mut kind),
                Some(("data", text)) => data = Some(serde_json::from_str(text).expect("JSON")),
                Some(("retry", _)) => {}
                _ => assert!(line.starts_with(':'), "{line}"),
            }
        }
        let id = self.id.clone();
        data.map(|data| Event { id, kind, data })
    }

    /// Events up to one that says this of a server.
    async fn until(&mut self, id: &str, players: u64) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let event = self.next().await.expect("more events");
            let is_last = event.data["data"]["id"] == *id && event.players() == players;
            events.push(event);
            if is_last {
                return events;
            }
        }
    }

    /// Reads until the beginning of the answer is in.
    async fn begun(&mut self) {
        while self.id.is_empty() {
            let chunk = self.response.chunk().await.expect("an answer");
            let chunk = chunk.expect("a beginning");
            self.text
                .push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                assert_eq!(self.read(&block), None);
                self.text = rest;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_followers_hear_the_same_in_the_same_order() {
    const FOLLOWERS: usize = 500;
    const ROUNDS: u64 = 10;
    let stack = Stack::start(|config| config.limit.subscribers = FOLLOWERS).await;
    let ids = stack.ids().await;
    let last = ids.last().expect("a server").clone();
    let mut followers = JoinSet::new();
    for _ in 0..FOLLOWERS {
        let mut stream = stack.follow("?from=start").await;
        let last = last.clone();
        followers.spawn(async move { stream.until(&last, ROUNDS + 100).await });
    }
    assert_eq!(
        stack.metric("bifrost_bridge_event_subscribers").await,
        FOLLOWERS as u64
    );
    let refused = stack.events("").send().await.expect("an answer");
    assert_eq!(refused.status(), 503, "one more than the limit");
    for round in 1..=ROUNDS {
        for id in &ids {
            stack.count_players(id, round + 100).await;
        }
    }
    let heard: Vec<Vec<Event>> = followers.join_all().await;
    for events in &heard {
        assert_eq!(events, &heard[0]);
    }
    check_order(&heard[0], &ids);
    let is_empty = |count| count == 0;
    while !is_empty(stack.metric("bifrost_bridge_event_subscribers").await) {
        tokio::task::yield_now().await;
    }
}

/// Each server comes first, and then only counts up; ids grow by one.
fn check_order(events: &[Event], ids: &[String]) {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut added = BTreeSet::new();
    for event in events {
        let (subject, players) = (event.subject(), event.players());
        if event.kind == "instance.added" {
            assert!(added.insert(subject), "{subject} came twice");
        } else {
            assert_eq!(event.kind, "instance.changed");
            assert!(counts[subject] < players, "{event:?}");
        }
        counts.insert(subject, players);
    }
    for id in ids {
        assert!(
            counts.contains_key(format!("instance:{id}").as_str()),
            "{id}"
        );
    }
    check_gapless(events);
}

fn check_gapless(events: &[Event]) {
    let number = |event: &Event| -> u64 {
        let number = event.id.rsplit_once('.').expect("an id").1;
        number.parse().expect("a number")
    };
    for pair in events.windows(2) {
        assert_eq!(number(&pair[0]) + 1, number(&pair[1]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_comes_back_misses_nothing_and_hears_nothing_twice() {
    let stack = Stack::start(|_| {}).await;
    let ids = stack.ids().await;
    let id = &ids[0];
    let mut whole = stack.follow("?from=start").await;
    let mut partial = stack.follow("?from=start").await;
    stack.count_players(id, 101).await;
    let mut parts = partial.until(id, 101).await;
    for round in 102..106 {
        let place = partial.id.clone();
        drop(partial);
        stack.count_players(id, round).await;
        // All that is missed has happened before the follower is back.
        let missed = whole.until(id, round).await;
        partial = if round % 2 == 0 {
            stack.follow_after(&place).await
        } else {
            stack.follow(&format!("?after={place}")).await
        };
        let heard = partial.until(id, round).await;
        assert!(heard.ends_with(&missed[missed.len() - 1..]));
        parts.extend(heard);
    }
    let mut again = stack.follow("?from=start").await;
    assert_eq!(again.until(id, 105).await, parts);
    check_gapless(&parts);
}

#[tokio::test]
async fn whoever_left_before_the_first_event_can_still_come_back() {
    let stack = Stack::start(|_| {}).await;
    let id = &stack.ids().await[0];
    stack
        .follow("?from=start")
        .await
        .next()
        .await
        .expect("the servers came");
    let mut early = stack.follow("").await;
    early.begun().await;
    let place = early.id.clone();
    drop(early);
    stack.count_players(id, 200).await;
    let mut late = stack.follow_after(&place).await;
    assert!(!late.until(id, 200).await.is_empty());
}

#[tokio::test]
async fn an_id_that_is_not_of_this_history_or_too_old_is_answered_with_a_reset() {
    let stack = Stack::start(|_| {}).await;
    let id = &stack.ids().await[0];
    let first = stack
        .follow("?from=start")
        .await
        .next()
        .await
        .expect("an event");
    let (history, _) = first.id.rsplit_once('.').expect("an id");
    for (id_given, reason) in [
        ("elsewhere.7".to_owned(), "other_history"),
        (format!("{history}.7"), "too_old"),
        (format!("{history}.{}", u64::MAX), "other_history"),
    ] {
        let mut stream = stack.follow_after(&id_given).await;
        let reset = stream.next().await.expect("a reset");
        assert_eq!(
            (reset.kind.as_str(), &reset.data["reason"]),
            ("reset", &json!(reason))
        );
        assert!(reset.id.starts_with(history), "{}", reset.id);
        drop(stream);
        // The reset has an id of its own, from which on nothing is lost.
        let count = 300 + id_given.len() as u64;
        stack.count_players(id, count).await;
        let mut stream = stack.follow_after(&reset.id).await;
        let events = stream.until(id, count).await;
        assert!(
            events.iter().all(|event| event.kind == "instance.changed"),
            "{events:?}"
        );
    }
    for query in ["?after=nonsense", "?from=end", "?since=1", "?kind=a&kind=b"] {
        let answer = stack.events(query).send().await.expect("an answer");
        assert_eq!(answer.status(), 400, "{query}");
    }
}

#[tokio::test]
async fn a_follower_hears_only_what_it_asks_for() {
    let stack = Stack::start(|_| {}).await;
    let ids = stack.ids().await;
    let mut one = stack
        .follow(&format!("?from=start&subject=instance:{}", ids[1]))
        .await;
    let mut changes = stack.follow("?from=start&kind=instance.changed").await;
    stack.count_players(&ids[0], 150).await;
    stack.count_players(&ids[1], 151).await;
    for event in one.until(&ids[1], 151).await {
        assert_eq!(event.subject(), format!("instance:{}", ids[1]));
    }
    for event in changes.until(&ids[1], 151).await {
        assert_eq!(event.kind, "instance.changed");
    }
}

#[tokio::test]
async fn following_takes_no_place_among_the_calls_and_outlives_their_deadline() {
    let stack = Stack::start(|config| {
        config.limit.requests = 1;
        config.limit.request_deadline_ms = 500;
    })
    .await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(stack.follow("").await);
    }
    let id = stack.ids().await.first().expect("a server").clone();
    // Real time: connections do not move with a paused clock. Twice the deadline of a call.
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    stack.count_players(&id, 160).await;
    for stream in &mut streams {
        assert!(!stream.until(&id, 160).await.is_empty());
    }
}

#[tokio::test]
async fn followers_are_let_go_when_the_bridge_ends() {
    let mut stack = Stack::start(|config| config.limit.request_deadline_ms = 60_000).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = stack.follow("").await;
        stream.begun().await;
        streams.push(stream);
    }
    let stop = stack.stop.take().expect("not stopped yet");
    stop.send(()).expect("it runs");
    for stream in &mut streams {
        while stream.next().await.is_some() {}
    }
    let ended = tokio::time::timeout(PATIENCE / 2, &mut stack.ended);
    ended.await.expect("in time").expect("no panic");
}
