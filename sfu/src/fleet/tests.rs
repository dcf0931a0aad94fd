//! A Fleet in this process that is away, late, wrong or right.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::StatusCode,
    routing::{get, patch},
};
use fleet_client::Token;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::{config::Config, metrics::Metrics};

/// Nothing here takes this long.
const PATIENCE: Duration = Duration::from_secs(10);

type Answer = (StatusCode, Value);

/// What the Fleet answers: these one after the other, and the last for ever.
type Answers = Arc<Mutex<VecDeque<Answer>>>;

fn next(answers: &Answers) -> (StatusCode, Json<Value>) {
    let mut answers = answers.lock().unwrap();
    let (status, body) = match answers.len() {
        1 => answers[0].clone(),
        _ => answers.pop_front().unwrap(),
    };
    (status, Json(body))
}

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, router).await });
    url
}

/// A service whose ports are published from `first` on, or not yet.
fn service(id: i64, target: u16, first: Option<u16>) -> Value {
    let port = |name: &str, protocol: &str, at: u16| json!({"name": name, "protocol": protocol, "targetPort": target + at, "publishedPort": first.map(|it| it + at)});
    json!({
        "id": id, "appLocationSettingId": 1, "instance": 1, "serverConfigId": 1, "serverConfigName": "voice",
        "name": "voice", "status": "running", "status_message": null, "isBackupable": false, "isRestorable": false,
        "isPending": false, "isNotFound": false, "isHealthy": true, "isStopped": false, "maintenance": false,
        "ports": [port("voice_http", "tcp", 0), port("voice_webrtc", "udp", 1)], "env": {},
        "restartPolicy": {"condition": "any"},
        "node": {"architecture": "x86_64", "os": "linux", "address": "127.0.0.1"},
        "location": {"city": "limburg", "cityDisplay": "Limburg", "continent": "europe", "country": "germany", "isProtected": false},
        "resources": {"id": 1, "name": "S", "slug": "s", "type": "shared", "cpuLimit": 1.0, "memoryLimitBytes": 1,
            "memoryLimitMiB": 1.0, "memoryLimitFileSizeString": "1 MiB"},
        "backups": [], "metadata": {}, "createdAt": null, "updatedAt": null,
    })
}

fn page(number: i64, last: i64, services: &Value) -> Answer {
    let next = (number < last).then(|| format!("?page={}", number + 1));
    let body = json!({
        "data": services,
        "links": {"first": null, "last": null, "prev": null, "next": next},
        "meta": {"current_page": number, "from": 1, "last_page": last, "links": [], "path": "/", "per_page": 100,
            "to": 1, "total": 1},
    });
    (StatusCode::OK, body)
}

fn refusal(status: u16) -> Answer {
    let status = StatusCode::from_u16(status).unwrap();
    (status, json!({"message": "no"}))
}

fn settings(api_url: String) -> config::Fleet {
    let mut settings = config::Fleet::new(1, Token::new("hunter2").unwrap());
    settings.api_url = api_url;
    settings.report_interval = Duration::from_millis(100);
    settings.start_timeout = PATIENCE;
    settings
}

/// What a server that listens on 4433 and 4434 learns of a Fleet that answers lists like this.
async fn found(
    answers: impl IntoIterator<Item = Answer>,
    adjust: impl FnOnce(&mut config::Fleet),
) -> Result<Place, FleetError> {
    let answers: Answers = Arc::new(Mutex::new(answers.into_iter().collect()));
    let list = get(|State(answers): State<Answers>| async move { next(&answers) });
    let router = Router::new().route("/v1/apps/1/services", list);
    let mut settings = settings(serve(router.with_state(answers)).await);
    adjust(&mut settings);
    Fleet::new(settings)?.find(4433, 4434).await
}

#[derive(Deserialize)]
struct PageNumber {
    page: i64,
}

#[tokio::test]
async fn a_service_is_found_on_any_page() {
    let list = async |Query(PageNumber { page: number }): Query<PageNumber>| {
        let target = if number == 2 { 4433 } else { 5433 };
        let (status, body) = page(number, 3, &json!([service(number, target, Some(20_000))]));
        (status, Json(body))
    };
    let router = Router::new().route("/v1/apps/1/services", get(list));
    let fleet = Fleet::new(settings(serve(router).await)).unwrap();
    let place = fleet.find(4433, 4434).await.unwrap();
    let [http, webrtc] = [20_000, 20_001].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let wanted = Place {
        service_id: 2,
        http,
        webrtc,
    };
    assert_eq!(place, wanted);
}

#[tokio::test]
async fn a_fleet_that_is_away_and_ports_that_are_not_published_are_waited_for() {
    let place = found(
        [
            refusal(503),
            page(1, 1, &json!([])),
            page(1, 1, &json!([service(7, 4433, None)])),
            page(1, 1, &json!([service(7, 4433, Some(20_000))])),
        ],
        |_| {},
    );
    assert_eq!(place.await.unwrap().service_id, 7);
}

#[tokio::test]
async fn a_start_without_a_place_ends_with_what_was_missing() {
    let soon = |settings: &mut config::Fleet| settings.start_timeout = Duration::from_millis(300);
    for (answer, words) in [
        (refusal(503), "is not available"),
        (page(1, 1, &json!([])), "none of the 0 services of app 1"),
        (
            page(1, 1, &json!([service(7, 4433, None)])),
            "\"voice_http\" of service 7 is not published yet",
        ),
    ] {
        let error = found([answer], soon).await.unwrap_err().to_string();
        assert!(error.starts_with("not found on the Fleet within 0.3 s: "));
        assert!(error.contains(words), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn what_will_not_change_is_not_waited_for() {
    for status in [401, 403, 404, 422] {
        let error = found([refusal(status)], |_| {}).await.unwrap_err();
        let told = error.to_string();
        assert_eq!(told, "the Fleet does not tell of the services of app 1");
    }
    let two = json!([service(7, 4433, Some(1)), service(8, 4433, Some(3))]);
    let error = found([page(1, 1, &two)], |_| {}).await.unwrap_err();
    assert!(matches!(error, FleetError::Ambiguous { .. }), "{error}");
    let elsewhere = |settings: &mut config::Fleet| {
        settings.address = Some("192.0.2.1".parse().unwrap());
        settings.start_timeout = Duration::from_millis(1);
    };
    let one = json!([service(7, 4433, Some(1))]);
    let error = found([page(1, 1, &one)], elsewhere).await.unwrap_err();
    assert!(error.to_string().contains("[192.0.2.1]"), "{error}");
}

/// Reports to a Fleet that answers like this; what it gets, and the metrics.
async fn reports(
    answers: impl IntoIterator<Item = Answer>,
) -> (Reports, mpsc::Receiver<Value>, Arc<Metrics>) {
    let answers: Answers = Arc::new(Mutex::new(answers.into_iter().collect()));
    let (got, gets) = mpsc::channel(100);
    let take = patch(async move |Json(body): Json<Value>| {
        got.send(body["metadata"].clone()).await.unwrap();
        next(&answers)
    });
    let url = serve(Router::new().route("/v1/services/7/metadata", take)).await;
    let metrics = Metrics::new(&config::Metrics::default(), 1, &[], None);
    let metrics = Arc::new(metrics);
    let reports = Reports::of(&settled(url), &metrics).unwrap().unwrap();
    (reports, gets, metrics)
}

fn settled(url: String) -> Config {
    let mut settings = settings(url);
    let address = SocketAddr::from(([127, 0, 0, 1], 20_000));
    settings.place = Some(Place {
        service_id: 7,
        http: address,
        webrtc: address,
    });
    let mut config = Config::new();
    config.public_address = Some(address.to_string());
    config.fleet = Some(settings);
    config
}

async fn get_next(gets: &mut mpsc::Receiver<Value>) -> Value {
    let next = tokio::time::timeout(PATIENCE, gets.recv()).await;
    next.expect("in time").expect("a report")
}

#[tokio::test]
async fn reports_go_on_when_the_fleet_fails() {
    let ok = (StatusCode::OK, service(7, 4433, Some(20_000)));
    let answers = [refusal(500), refusal(404), ok.clone(), ok];
    let (reports, mut gets, metrics) = reports(answers).await;
    let (_phase, news) = watch::channel(());
    let load = || Status {
        load: 0.5,
        ..Status::default()
    };
    let task = tokio::spawn(async move { reports.run(load, news).await });
    for _ in 0..5 {
        let report = get_next(&mut gets).await;
        assert_eq!(report["instance_state"], "voice");
        assert_eq!(report["voice_node"]["address"], "127.0.0.1:20000");
        assert_eq!(report["voice_node"]["load"], 0.5);
        assert_eq!(report["voice_node"]["draining"], false);
    }
    task.abort();
    let (success, failure) = metrics.fleet_reports();
    assert_eq!(failure, 2);
    assert!(success >= 2, "{success}");
}

#[tokio::test]
async fn news_is_reported_at_once_also_while_a_report_hangs() {
    let (got, mut gets) = mpsc::channel(100);
    let take = patch(async move |Json(body): Json<Value>| {
        let is_draining = body["metadata"]["voice_node"]["draining"] == true;
        got.send(body["metadata"].clone()).await.unwrap();
        if !is_draining {
            std::future::pending::<()>().await;
        }
        Json(service(7, 4433, Some(20_000)))
    });
    let url = serve(Router::new().route("/v1/services/7/metadata", take)).await;
    let mut config = settled(url);
    let fleet = config.fleet.as_mut().unwrap();
    fleet.report_interval = Duration::from_secs(3600);
    let metrics = Arc::new(Metrics::new(&config::Metrics::default(), 1, &[], None));
    let reports = Reports::of(&config, &metrics).unwrap().unwrap();

    let (phase, news) = watch::channel(false);
    let status = {
        let phase = phase.subscribe();
        move || Status {
            is_draining: *phase.borrow(),
            ..Status::default()
        }
    };
    let task = tokio::spawn(async move { reports.run(status, news).await });
    assert_eq!(get_next(&mut gets).await["voice_node"]["draining"], false);
    let began = Instant::now();
    phase.send_replace(true);
    assert_eq!(get_next(&mut gets).await["voice_node"]["draining"], true);
    assert!(began.elapsed() < REQUEST_TIME_MAX, "it was not waited for");
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_hangs_holds_up_the_end_for_two_seconds_at_most() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let metrics = Arc::new(Metrics::new(&config::Metrics::default(), 1, &[], None));
    let reports = Reports::of(&settled(url), &metrics).unwrap().unwrap();
    let began = tokio::time::Instant::now();
    reports.farewell(Status::default()).await;
    assert!(began.elapsed() <= Duration::from_millis(2_100));
    assert_eq!(metrics.fleet_reports(), (0, 1));
}

#[test]
fn settings_that_were_not_settled_are_refused() {
    let metrics = Arc::new(Metrics::new(&config::Metrics::default(), 1, &[], None));
    let mut config = settled("http://127.0.0.1:1".to_owned());
    config.fleet.as_mut().unwrap().place = None;
    let error = Reports::of(&config, &metrics).unwrap_err();
    assert!(matches!(error, FleetError::NotSettled));
    config.fleet = None;
    assert!(Reports::of(&config, &metrics).unwrap().is_none());
}

#[test]
fn looks_for_the_service_become_rarer() {
    let ms = Duration::from_millis;
    let pauses = [0, 1, 2, 5, u32::MAX].map(|tries| pause(tries, 1.0));
    assert_eq!(pauses, [250, 500, 1_000, 5_000, 5_000].map(ms));
    assert_eq!(pause(0, 0.0), ms(125));
}

#[test]
fn this_machine_has_addresses() {
    let loopback: IpAddr = [127, 0, 0, 1].into();
    assert!(own_addresses().contains(&loopback));
}
