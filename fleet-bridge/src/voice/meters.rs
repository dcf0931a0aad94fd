//! What voice servers say of themselves: their metrics, read where the settings say, for the page to show.

use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::{Client, Url, redirect::Policy};
use serde::Serialize;
use tokio::sync::Mutex;
use utoipa::ToSchema;

/// Figures are given again for this long: many who look are no more load than one.
const FRESH: Duration = Duration::from_millis(900);

/// Time for one voice server to answer; it is nearby, or shown as away.
const READ_TIME: Duration = Duration::from_secs(1);

/// Largest answer, in bytes: a server with a hundred shards has a few hundred kilobytes.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Most steps of the histogram; voice servers have a few dozen.
const STEPS_MAX: usize = 128;

/// What a voice server has counted since its start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Meter {
    /// Host and port of its metrics.
    #[schema(example = "127.0.0.1:9000")]
    pub(crate) address: String,
    /// Its metrics were read; without that the figures are zero.
    pub(crate) is_up: bool,
    /// How busy it is, 0 to 1.
    load: f64,
    /// Connected clients.
    clients: f64,
    /// Peers in rooms.
    peers: f64,
    /// Rooms.
    rooms: f64,
    /// Voice packets that came.
    packets_in: f64,
    /// Voice packets that went out.
    packets_out: f64,
    /// Voice packets that were not forwarded.
    drops: f64,
    /// How many packets had gone out to everybody within so many seconds of their arrival, by ascending time.
    forwards: Vec<ForwardStep>,
}

/// A step of the histogram.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
struct ForwardStep {
    /// Seconds; none: however long it took.
    within_seconds: Option<f64>,
    /// Packets.
    count: f64,
}

/// Reads the metrics of voice servers, for however many want to know.
#[derive(Debug)]
pub(crate) struct Meters {
    http: Client,
    urls: Vec<Url>,
    /// The last figures, and when they were asked for. Held while servers are asked: all who wait share the answer.
    last: Mutex<Option<(Instant, Vec<Meter>)>>,
}

impl Meters {
    /// # Errors
    /// The system's certificates or resolver are not usable.
    pub(crate) fn new(urls: Vec<Url>) -> Result<Self, reqwest::Error> {
        let http = Client::builder()
            .timeout(READ_TIME)
            .redirect(Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self {
            http,
            urls,
            last: Mutex::default(),
        })
    }

    /// The figures of all voice servers of the settings, in their order; a moment old at most.
    pub(crate) async fn read(&self) -> Vec<Meter> {
        let mut last = self.last.lock().await;
        if let Some((_, meters)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return meters.clone();
        }
        let asked = Instant::now();
        let meters = join_all(self.urls.iter().map(|url| self.meter(url))).await;
        *last = Some((asked, meters.clone()));
        meters
    }

    async fn meter(&self, url: &Url) -> Meter {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or_default();
        let text = self.text(url.clone()).await;
        Meter {
            address: format!("{host}:{port}"),
            is_up: text.is_some(),
            ..text.map(|text| parse(&text)).unwrap_or_default()
        }
    }

    async fn text(&self, url: Url) -> Option<String> {
        let mut response = self.http.get(url).send().await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.ok()? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > ANSWER_BYTES_MAX {
                return None;
            }
        }
        String::from_utf8(bytes).ok()
    }
}

/// Adds up what Prometheus' text format says, over all shards and kinds.
fn parse(text: &str) -> Meter {
    let mut meter = Meter::default();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = sample(line) else {
            continue;
        };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let figure = match name {
            "sfu_load" => &mut meter.load,
            "sfu_clients" => &mut meter.clients,
            "sfu_peers" => &mut meter.peers,
            "sfu_rooms" => &mut meter.rooms,
            "sfu_packets_in_total" => &mut meter.packets_in,
            "sfu_packets_out_total" => &mut meter.packets_out,
            "sfu_drops_total" => &mut meter.drops,
            "sfu_forward_seconds_bucket" => {
                add_step(&mut meter.forwards, labels, value);
                continue;
            }
            _ => continue,
        };
        *figure += value;
    }
    let seconds = |step: &ForwardStep| step.within_seconds.unwrap_or(f64::INFINITY);
    meter
        .forwards
        .sort_by(|a, b| seconds(a).total_cmp(&seconds(b)));
    meter
}

/// The series and the value of a line. Labels may have blanks; what follows the series has none but between values.
fn sample(line: &str) -> Option<(&str, f64)> {
    let end = match line.rfind('}') {
        Some(end) => end + 1,
        None => line.find(' ')?,
    };
    let (series, rest) = line.split_at_checked(end)?;
    let value: f64 = rest.split_ascii_whitespace().next()?.parse().ok()?;
    value.is_finite().then_some((series, value))
}

fn add_step(steps: &mut Vec<ForwardStep>, labels: &str, count: f64) {
    let bound = labels
        .strip_prefix("le=\"")
        .or_else(|| labels.split_once(",le=\"").map(|(_, rest)| rest));
    let Some(bound) = bound.and_then(|rest| rest.split('"').next()) else {
        return;
    };
    let within_seconds = match bound.parse::<f64>() {
        Ok(seconds) => Some(seconds).filter(|seconds| seconds.is_finite()),
        Err(_) => return,
    };
    let mut known = steps.iter_mut();
    if let Some(step) = known.find(|step| step.within_seconds == within_seconds) {
        step.count += count;
    } else if steps.len() < STEPS_MAX {
        steps.push(ForwardStep {
            within_seconds,
            count,
        });
    }
}

#[cfg(test)]
mod tests {
    use wiremock::{Mock, MockServer, ResponseTemplate, matchers::any};

    use super::*;

    const TEXT: &str = "# HELP sfu_load How busy\nsfu_load 0.25\nsfu_peers{transport=\"web\"} 2\n\
        sfu_peers{transport=\"quic\",deployment=\"a } b\"} 3\nsfu_rooms 1\n\
        sfu_packets_in_total{shard=\"0\"} 10\nsfu_packets_in_total{shard=\"1\"} 5 1700000000\n\
        sfu_drops_total{shard=\"0\",reason=\"late\"} 4\n\
        sfu_forward_seconds_bucket{shard=\"0\",le=\"+Inf\"} 9\n\
        sfu_forward_seconds_bucket{shard=\"0\",le=\"0.001\"} 7\n\
        sfu_forward_seconds_bucket{le=\"0.001\",shard=\"1\"} 1\nsfu_other 3\nsfu_clients NaN\nodd\n# EOF\n";

    fn step(within_seconds: Option<f64>, count: f64) -> ForwardStep {
        ForwardStep {
            within_seconds,
            count,
        }
    }

    #[test]
    fn figures_are_added_up_over_shards_and_kinds() {
        let meter = parse(TEXT);
        let expected = Meter {
            load: 0.25,
            peers: 5.0,
            rooms: 1.0,
            packets_in: 15.0,
            drops: 4.0,
            forwards: vec![step(Some(0.001), 8.0), step(None, 9.0)],
            ..Meter::default()
        };
        assert_eq!(meter, expected);
    }

    #[tokio::test]
    async fn many_who_look_at_once_are_one_call_and_a_server_that_is_away_says_so() {
        let server = MockServer::start().await;
        let answer = ResponseTemplate::new(200).set_body_string(TEXT);
        Mock::given(any()).respond_with(answer).mount(&server).await;
        let url = |text: &str| Url::parse(text).unwrap();
        let meters = Meters::new(vec![url(&server.uri()), url("http://127.0.0.1:1/")]).unwrap();
        let (first, second) = tokio::join!(meters.read(), meters.read());
        assert_eq!(first, second);
        assert!(first[0].is_up && first[0].packets_in > 14.0);
        assert!(!first[1].is_up && first[1].address == "127.0.0.1:1");
        assert_eq!(server.received_requests().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_none() {
        let server = MockServer::start().await;
        let answer = ResponseTemplate::new(200).set_body_bytes(vec![b' '; ANSWER_BYTES_MAX + 1]);
        Mock::given(any()).respond_with(answer).mount(&server).await;
        let meters = Meters::new(vec![Url::parse(&server.uri()).unwrap()]).unwrap();
        assert!(!meters.read().await[0].is_up);
    }
}
