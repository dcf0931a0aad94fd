//! What happens, as it happens: the store's events as server-sent events.
//!
//! The store's ring of events is the queue of every reader: a reader pulls from it at its own pace, and one that is so
//! slow that it falls out is told to read the lists again.

mod position;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse as _, Response},
};
use futures::stream;
use http::{
    HeaderMap, HeaderName,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, watch};

use self::position::{Lost, Start};
use super::Bridge;
use crate::{
    error::{Error, Problem},
    metrics::{InFlight, Metrics},
    store::{Event, Store, Unavailable},
};

/// Something is sent at least this often, so that proxies and readers know that the connection lives.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// After a store that did not answer is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// Events that are taken from the store at once: what one write to a reader holds.
const PAGE: usize = 256;

/// Milliseconds after which a browser that lost the connection comes back.
const RECONNECT_MS: u32 = 2_000;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Proxies that buffer answers are asked not to.
const UNBUFFERED: (HeaderName, &str) = (HeaderName::from_static("x-accel-buffering"), "no");

/// Follow what happens.
///
/// Server-sent events: `id` is `{history}.{sequence}`, `event` the kind, `data` one line of JSON with `subject`, `at`
/// and `data`. After an event `reset` the lists must be read again: what happened before it is not known. Of one
/// subject, events come in the order in which they happened.
#[utoipa::path(get, path = "/v1/events", tag = "events", security((), ("token" = [])),
    params(
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event seen: continues after it"),
        ("after" = Option<String>, Query, description = "The same, for clients that cannot set the header"),
        ("from" = Option<String>, Query, description = "`start`: all events that are kept, instead of those to come"),
        ("subject" = Option<String>, Query, description = "Only of this subject", example = "instance:101"),
        ("kind" = Option<String>, Query, description = "Only of this kind", example = "instance.changed")
    ),
    responses(
        (status = 501, description = "The bridge keeps no index", body = Problem,
            content_type = "application/problem+json"),
        (status = 200, description = "The events, until the reader or the bridge goes", body = String,
            content_type = "text/event-stream"), super::instances::Refusals))]
pub(super) async fn follow(
    State(bridge): State<Arc<Bridge>>,
    headers: HeaderMap,
    parameters: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Response, Error> {
    let Query(parameters) =
        parameters.map_err(|rejection| Error::invalid_argument(rejection.body_text()))?;
    let wanted = Wanted::parse(&headers, &parameters)?;
    if !bridge.follows_servers() {
        return Err(Error::Unimplemented(
            "this bridge keeps no index, so that nothing ever happens here: set `enabled = true` in its section [index]",
        ));
    }
    let Ok(seat) = Arc::clone(&bridge.seats).try_acquire_owned() else {
        return Err(Error::TooManySubscribers(bridge.config.limit.subscribers));
    };
    let reader = Reader::new(&bridge, wanted, seat).await?;
    let chunks = stream::unfold(reader, async |mut reader| {
        let chunk = reader.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(chunk)), reader))
    });
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
        UNBUFFERED,
    ];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

/// What a reader asks for.
#[derive(Debug, Default)]
struct Wanted {
    start: Start,
    subject: Option<String>,
    kind: Option<String>,
}

impl Wanted {
    fn parse(headers: &HeaderMap, parameters: &[(String, String)]) -> Result<Self, Error> {
        let mut wanted = Self::default();
        let (mut after, mut from) = (None, None);
        for (name, text) in parameters {
            let slot = match name.as_str() {
                "after" => &mut after,
                "from" => &mut from,
                "subject" => &mut wanted.subject,
                "kind" => &mut wanted.kind,
                _ => {
                    return Err(Error::invalid_argument(format!(
                        "unknown parameter `{name}`: the events know `after`, `from`, `subject` and `kind`"
                    )));
                }
            };
            if slot.replace(text.clone()).is_some() {
                return Err(Error::invalid_argument(format!(
                    "`{name}` is given more than once"
                )));
            }
        }
        let header = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty());
        if let Some(id) = header {
            // A client that comes back repeats its first address: the header is the newer word.
            wanted.start = Start::after(&String::from_utf8_lossy(id.as_bytes()))?;
        } else if let Some(id) = after {
            wanted.start = Start::after(&id)?;
        } else if let Some(text) = from {
            if text != "start" {
                return Err(Error::invalid_argument("`from` must be `start`"));
            }
            wanted.start = Start::Oldest;
        }
        Ok(wanted)
    }

    fn takes(&self, event: &Event) -> bool {
        let is = |wanted: &Option<String>, text: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == text)
        };
        is(&self.subject, &event.subject) && is(&self.kind, &event.kind)
    }
}

/// One reader of the events.
#[derive(Debug)]
struct Reader {
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    /// The history of the store that `after` counts in.
    history: String,
    /// Events up to this one are dealt with.
    after: u64,
    wanted: Wanted,
    newest: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
    /// What the answer begins with.
    first: Option<String>,
    _seat: OwnedSemaphorePermit,
    _counted: InFlight,
}

impl Reader {
    async fn new(
        bridge: &Bridge,
        wanted: Wanted,
        seat: OwnedSemaphorePermit,
    ) -> Result<Self, Error> {
        let store = &bridge.store;
        // Subscribed first: what is committed from here on wakes the reader.
        let newest = store.newest_event();
        let history = store.id().await?;
        let kept = store.events(0, 1).await?;
        let (after, lost) = wanted.start.place(&history, &kept);
        let mut reader = Self {
            store: Arc::clone(store),
            metrics: Arc::clone(&bridge.metrics),
            history,
            after,
            wanted,
            newest,
            stopping: bridge.stopping.clone(),
            first: None,
            _seat: seat,
            _counted: bridge.metrics.subscribe(),
        };
        let mut first = format!("retry: {RECONNECT_MS}\n");
        match lost {
            Some(lost) => first.push_str(&reader.reset(lost)),
            // Whoever goes before the first event can still continue here.
            None => first.push_str(&reader.place()),
        }
        reader.first = Some(first);
        Ok(reader)
    }

    /// The next part of the answer; `None` when the bridge goes.
    async fn next(&mut self) -> Option<String> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let beat = tokio::time::Instant::now() + HEARTBEAT;
        loop {
            if *self.stopping.borrow() {
                return None;
            }
            // Marked as seen before the store is asked: what comes in between wakes the reader at once.
            self.newest.borrow_and_update();
            let pause = match self.read().await {
                Ok(Some(text)) => return Some(text),
                Ok(None) => None,
                Err(_) => Some(RETRY),
            };
            tokio::select! {
                biased;
                changed = self.stopping.changed() => changed.ok()?,
                () = tokio::time::sleep_until(beat) => return Some(self.place()),
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
                changed = self.newest.changed(), if pause.is_none() => changed.ok()?,
            }
        }
    }

    /// What the store has beyond what is dealt with, as text; `None` when that is nothing for this reader.
    async fn read(&mut self) -> Result<Option<String>, Unavailable> {
        loop {
            let page = self.store.events(self.after, PAGE).await?;
            if page.has_gap(self.after) {
                let history = self.store.id().await?;
                let is_other = history != self.history;
                self.history = history;
                self.after = page.newest;
                let lost = if is_other { Lost::History } else { Lost::Kept };
                return Ok(Some(self.reset(lost)));
            }
            let Some(last) = page.events.last() else {
                return Ok(None);
            };
            self.after = last.sequence;
            let events = page.events.iter().filter(|event| self.wanted.takes(event));
            let text: String = events.map(|event| render(&self.history, event)).collect();
            if !text.is_empty() {
                return Ok(Some(text));
            }
        }
    }

    /// Tells where the reader stands, without an event: a block that has no data is none.
    fn place(&self) -> String {
        format!(":\nid: {}.{}\n\n", self.history, self.after)
    }

    fn reset(&self, lost: Lost) -> String {
        self.metrics.reset();
        let data = json!({"reason": lost.label(), "detail": lost.detail()});
        format!(
            "id: {}.{}\nevent: reset\ndata: {data}\n\n",
            self.history, self.after
        )
    }
}

/// One event. JSON is written anew and without line ends, so that nothing in the store can end the event early.
fn render(history: &str, event: &Event) -> String {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
    let data = json!({"subject": &*event.subject, "at": event.at.to_rfc3339(), "data": data});
    let kind = event.kind.replace(['\r', '\n'], " ");
    format!(
        "id: {history}.{}\nevent: {kind}\ndata: {data}\n\n",
        event.sequence
    )
}
