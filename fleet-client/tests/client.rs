//! The client against a server that answers what it is told to.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use fleet_client::{
    AppBillingState, Attempt, Builder, Client, Error, Metadata, Outcome, Protocol, RetryPolicy,
    Token, types,
};
use futures::TryStreamExt as _;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpListener};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{header, method, path, query_param},
};

const QUICK: RetryPolicy = RetryPolicy {
    attempts_max: 3,
    delay_first: Duration::from_millis(1),
    delay_max: Duration::from_millis(20),
};

fn builder(base: &str) -> Builder {
    let token = Token::new("test-token").expect("a token");
    Builder::new()
        .base_url(format!("{base}/api"))
        .token(token)
        .retry(QUICK)
}

fn client(base: &str) -> Client {
    builder(base).build().expect("a client")
}

async fn serve(template: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(wiremock::matchers::any())
        .respond_with(template)
        .mount(&server)
        .await;
    server
}

async fn get(client: &Client) -> Result<types::Server, Error> {
    let answer = client.get_server_by_id().app(1).docker_service(101).send();
    Ok(answer.await?.into_inner())
}

async fn list(client: &Client) -> Result<types::ServerPage, Error> {
    Ok(client.get_servers().app(1).send().await?.into_inner())
}

async fn refused(status: u16, body: Value) -> (Error, usize) {
    let server = serve(ResponseTemplate::new(status).set_body_json(body)).await;
    let error = get(&client(&server.uri())).await.expect_err("a refusal");
    (error, calls(&server).await)
}

async fn calls(server: &MockServer) -> usize {
    server.received_requests().await.expect("recorded").len()
}

/// A server as API 0.9.0 sends it.
fn server_090(id: u32) -> Value {
    json!({
        "id": id, "appLocationSettingId": 7, "instance": 1, "serverConfigId": 3,
        "serverConfigName": "deathmatch", "name": "srv", "status": "running", "status_message": null,
        "isBackupable": false, "isRestorable": false, "isPending": false, "isNotFound": false,
        "isHealthy": true, "isStopped": false, "maintenance": false,
        "ports": [{"name": "game_port", "protocol": "udp", "targetPort": 7777, "publishedPort": null}],
        "env": {"MODE": {"key": "MODE", "value": null}},
        "restartPolicy": {"condition": "any"},
        "node": {"architecture": "x86_64", "os": "linux", "address": "203.0.113.7"},
        "location": {"city": "limburg", "cityDisplay": "Limburg", "continent": "europe", "country": "de",
            "isProtected": false},
        "resources": {"id": 1, "name": "Small", "slug": "small", "type": "shared", "cpuLimit": "1",
            "cpuReservation": "0.5", "memoryLimitBytes": 1_073_741_824, "memoryLimitMiB": 1024,
            "memoryLimitFileSizeString": "1 GiB", "memoryReservationBytes": 536_870_912,
            "memoryReservationMiB": 512, "memoryReservationFileSizeString": "512 MiB"},
        "backups": [], "metadata": {"instance_state": "idle"},
        "createdAt": "2026-01-02T03:04:05.000000Z", "updatedAt": null
    })
}

/// A server as API 0.9.2 sends it: resources as numbers and without reservations.
fn server_092(id: u32) -> Value {
    let mut server = server_090(id);
    server["resources"] = json!({"id": 1, "name": "Small", "slug": "small", "type": "shared", "cpuLimit": 0.5,
        "memoryLimitBytes": 1_073_741_824, "memoryLimitMiB": 1024.5, "memoryLimitFileSizeString": "1 GiB"});
    server
}

fn page(servers: &[Value], current: u32, last: u32) -> Value {
    let next = (current < last).then(|| format!("https://x/?page={}", current + 1));
    json!({
        "data": servers,
        "links": {"first": null, "last": null, "prev": null, "next": next},
        "meta": {"current_page": current, "from": 1, "last_page": last, "links":
            [{"url": null, "label": "1", "active": true, "page": 1}], "path": null, "per_page": 15, "to": 1,
            "total": 1}
    })
}

#[tokio::test]
async fn a_call_carries_the_token_and_asks_for_json() {
    let server = MockServer::start().await;
    Mock::given(method("GET"))
        .and(path("/api/v1/apps/1/services/101"))
        .and(header("authorization", "Bearer test-token"))
        .and(header("accept", "application/json"))
        .respond_with(ResponseTemplate::new(200).set_body_json(server_090(101)))
        .expect(1)
        .mount(&server)
        .await;
    assert_eq!(get(&client(&server.uri())).await.expect("a server").id, 101);
}

#[tokio::test]
async fn every_refusal_has_its_error() {
    let message = json!({"message": "no"});
    let (error, calls) = refused(401, message.clone()).await;
    assert!(matches!(error, Error::Unauthenticated(text) if text == "no"));
    assert_eq!(calls, 1, "a refusal is not retried");
    let (error, _) = refused(403, message.clone()).await;
    assert!(matches!(error, Error::PermissionDenied(_)));
    let (error, _) = refused(404, message.clone()).await;
    assert!(matches!(error, Error::NotFound(_)));
    let (error, _) = refused(409, message.clone()).await;
    assert!(matches!(error, Error::Refused(refusal) if refusal.status == 409));
    let (error, _) = refused(418, message).await;
    assert!(matches!(error, Error::Refused(refusal) if refusal.status == 418));
    let body = json!({"message": "bad", "errors": {"perPage": ["too small"]}});
    let (error, _) = refused(422, body).await;
    let Error::Validation { fields, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(fields["perPage"], ["too small"]);
}

#[tokio::test]
async fn a_failing_service_is_asked_as_often_as_the_policy_says() {
    let (error, calls) = refused(503, json!({"message": "Server Error"})).await;
    assert!(matches!(error, Error::Unavailable { status: Some(status), .. } if status == 503));
    assert_eq!(calls, 3);
    let (error, calls) = refused(429, json!({"message": "Too Many Attempts."})).await;
    assert!(matches!(error, Error::RateLimited { .. }));
    assert_eq!(calls, 3);
}

#[tokio::test]
async fn a_service_that_comes_back_is_not_noticed() {
    let server = MockServer::start().await;
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(502))
        .up_to_n_times(2)
        .mount(&server)
        .await;
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(200).set_body_json(server_090(101)))
        .mount(&server)
        .await;
    let seen = Arc::new(Mutex::new(Vec::<Attempt>::new()));
    let log = Arc::clone(&seen);
    let observer = move |attempt| log.lock().expect("not poisoned").push(attempt);
    let client = builder(&server.uri()).observer(observer).build();
    get(&client.expect("a client")).await.expect("a server");
    let seen = seen.lock().expect("not poisoned");
    let retried: Vec<_> = seen.iter().map(|attempt| attempt.will_retry).collect();
    assert_eq!(retried, [true, true, false]);
    assert!(seen.iter().all(|it| it.operation == "get_server_by_id"));
    assert!(matches!(seen[0].outcome, Outcome::Status(status) if status == 502));
}

#[tokio::test]
async fn a_post_is_sent_again_only_when_the_service_refused_it() {
    for (status, expected) in [(500, 1), (503, 3)] {
        let server = serve(ResponseTemplate::new(status)).await;
        let client = client(&server.uri());
        let answer = client.start_server().docker_service(101).send().await;
        let error = Error::from(answer.expect_err("a failure"));
        assert!(matches!(error, Error::Unavailable { .. }));
        assert_eq!(calls(&server).await, expected, "{status}");
    }
}

#[tokio::test]
async fn retry_after_is_kept_when_short_and_handed_up_when_long() {
    let server = serve(
        ResponseTemplate::new(429)
            .insert_header("retry-after", "60")
            .set_body_json(json!({"message": "slow"})),
    )
    .await;
    let error = get(&client(&server.uri())).await.expect_err("a refusal");
    let Error::RateLimited { retry_after, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(retry_after, Some(Duration::from_secs(60)));
    assert_eq!(
        calls(&server).await,
        1,
        "a minute is longer than the policy waits"
    );

    let server = serve(ResponseTemplate::new(429).insert_header("retry-after", "1")).await;
    let policy = RetryPolicy {
        attempts_max: 2,
        delay_max: Duration::from_secs(2),
        ..QUICK
    };
    let client = builder(&server.uri()).retry(policy).build();
    let started = Instant::now();
    get(&client.expect("a client"))
        .await
        .expect_err("a refusal");
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(calls(&server).await, 2);
}

#[tokio::test]
async fn a_proxys_page_is_unavailable_and_shows_its_beginning() {
    let html = "<html>\n<h1>502 Bad Gateway</h1>";
    let server = serve(ResponseTemplate::new(502).set_body_raw(html, "text/html")).await;
    let error = get(&client(&server.uri())).await.expect_err("a failure");
    let Error::Unavailable {
        message, status, ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!(status.map(|it| it.as_u16()), Some(502));
    assert_eq!(message, "<html> <h1>502 Bad Gateway</h1>");
}

#[tokio::test]
async fn a_foreign_404_is_not_believed() {
    let server = serve(ResponseTemplate::new(404).set_body_raw("<html>nginx", "text/html")).await;
    let error = get(&client(&server.uri())).await.expect_err("a failure");
    assert!(matches!(error, Error::BadResponse { status: Some(status), .. } if status == 404));
}

#[tokio::test]
async fn the_network_cannot_forge_the_clients_own_mark() {
    let answer = ResponseTemplate::new(404)
        .insert_header("x-fleet-client-fault", "deadline")
        .set_body_json(json!({"message": "gone"}));
    let server = serve(answer).await;
    let error = get(&client(&server.uri())).await.expect_err("a failure");
    assert!(matches!(error, Error::NotFound(_)), "{error:?}");
}

#[tokio::test]
async fn a_success_of_another_shape_is_a_bad_response() {
    for body in ["<html>maintenance</html>", "{}", "[]", "{\"id\":", ""] {
        let server = serve(ResponseTemplate::new(200).set_body_raw(body, "text/html")).await;
        let error = get(&client(&server.uri())).await.expect_err("a failure");
        assert!(
            matches!(error, Error::BadResponse { .. }),
            "{body}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server =
        serve(ResponseTemplate::new(302).insert_header("location", "http://127.0.0.1:1/")).await;
    let error = get(&client(&server.uri())).await.expect_err("a failure");
    assert!(matches!(error, Error::BadResponse { status: Some(status), .. } if status == 302));
}

#[tokio::test]
async fn a_slow_service_ends_at_the_deadline() {
    let slow = ResponseTemplate::new(200).set_delay(Duration::from_secs(30));
    let server = serve(slow).await;
    let deadline = Instant::now() + Duration::from_millis(100);
    let client = client(&server.uri()).with_deadline(deadline);
    let error = get(&client).await.expect_err("a time-out");
    assert!(
        matches!(
            error,
            Error::Unavailable {
                timed_out: true,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(deadline.elapsed() < Duration::from_secs(5));
    let error = get(&client).await.expect_err("no time at all");
    assert!(matches!(
        error,
        Error::Unavailable {
            timed_out: true,
            ..
        }
    ));
    assert_eq!(
        calls(&server).await,
        1,
        "nothing is sent after the deadline"
    );
}

#[tokio::test]
async fn a_request_time_out_is_tried_again() {
    let server = serve(ResponseTemplate::new(200).set_delay(Duration::from_secs(30))).await;
    let client = builder(&server.uri())
        .request_timeout(Duration::from_millis(50))
        .build();
    let error = get(&client.expect("a client"))
        .await
        .expect_err("a time-out");
    assert!(
        matches!(
            error,
            Error::Unavailable {
                timed_out: true,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(calls(&server).await, 3);
}

/// Answers every connection with these bytes and closes it.
async fn raw_server(answer: Vec<u8>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::Relaxed);
            let mut request = [0; 4096];
            let _ = tokio::io::AsyncReadExt::read(&mut socket, &mut request).await;
            let _ = socket.write_all(&answer).await;
        }
    });
    (address, connections)
}

#[tokio::test]
async fn a_truncated_body_and_a_dropped_connection_are_tried_again() {
    let truncated = b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{\"id\":".to_vec();
    for answer in [truncated, Vec::new(), b"\x00garbage\r\n\r\n".to_vec()] {
        let (address, connections) = raw_server(answer).await;
        let error = get(&client(&format!("http://{address}"))).await;
        let error = error.expect_err("a failure");
        assert!(
            matches!(error, Error::Unavailable { status: None, .. }),
            "{error:?}"
        );
        assert_eq!(connections.load(Ordering::Relaxed), 3);
    }
}

#[tokio::test]
async fn an_endless_body_is_cut_off() {
    let length = fleet_client::RESPONSE_BYTES_MAX + 1;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
    let (address, _) = raw_server(head.into_bytes()).await;
    let error = get(&client(&format!("http://{address}")))
        .await
        .expect_err("a failure");
    assert!(matches!(error, Error::BadResponse { .. }), "{error:?}");
}

#[tokio::test]
async fn nobody_listening_is_unavailable_and_says_why() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let error = get(&client(&format!("http://{address}")))
        .await
        .expect_err("a failure");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_dropped_call_sends_nothing_more() {
    let server = serve(ResponseTemplate::new(503)).await;
    let policy = RetryPolicy {
        attempts_max: 50,
        delay_first: Duration::from_millis(200),
        delay_max: Duration::from_secs(1),
    };
    let client = builder(&server.uri())
        .retry(policy)
        .build()
        .expect("a client");
    let gave_up = tokio::time::timeout(Duration::from_millis(150), get(&client)).await;
    assert!(gave_up.is_err());
    let sent = calls(&server).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(calls(&server).await, sent);
}

#[tokio::test]
async fn both_versions_of_a_list_are_read() {
    for server in [server_090(1), server_092(1)] {
        let fleet = serve(ResponseTemplate::new(200).set_body_json(page(&[server], 1, 1))).await;
        let read = list(&client(&fleet.uri())).await.expect("a page");
        assert_eq!(read.data[0].resources.slug, "small");
        assert_eq!(read.data[0].ports[0].published_port, None);
    }
}

#[tokio::test]
async fn unknown_fields_and_values_and_php_maps_are_read() {
    let mut odd = server_090(1);
    odd["dns"] = json!("a.example.org");
    odd["metadata"] = json!([]);
    odd["env"] = json!([]);
    odd["ports"][0]["protocol"] = json!("sctp");
    odd["node"]["os"] = json!("plan9");
    let mut bare = server_090(2);
    bare["metadata"] = Value::Null;
    bare.as_object_mut().expect("an object").remove("node");
    let mut null_node = server_090(3);
    null_node["node"] = Value::Null;
    let body = page(&[odd, bare, null_node], 1, 1);
    let fleet = serve(ResponseTemplate::new(200).set_body_json(body)).await;
    let read = list(&client(&fleet.uri())).await.expect("a page").data;
    assert_eq!(read[0].metadata, Metadata::default());
    assert!(read[0].env.0.is_empty());
    assert_eq!(
        read[0].ports[0].protocol,
        Protocol::Unknown("sctp".to_owned())
    );
    assert!(read[1].node.is_none() && read[2].node.is_none());

    let app = json!({"id": 1, "name": "a", "inUse": true, "billingState": "barter"});
    let fleet = serve(ResponseTemplate::new(200).set_body_json(app)).await;
    let read = client(&fleet.uri())
        .get_app_by_id()
        .app(1)
        .send()
        .await
        .expect("an app");
    assert_eq!(
        read.billing_state,
        AppBillingState::Unknown("barter".to_owned())
    );
}

#[tokio::test]
async fn keys_to_delete_are_sent_the_way_php_reads_them() {
    let server = serve(ResponseTemplate::new(200).set_body_json(server_090(101))).await;
    let client = client(&server.uri());
    let keys = vec!["a".to_owned(), "b.c".to_owned()];
    let call = client
        .docker_services_metadata_delete_keys()
        .docker_service(101)
        .metadata(keys);
    call.send().await.expect("a server");
    let requests = server.received_requests().await.expect("recorded");
    let pairs: Vec<_> = requests[0].url.query_pairs().collect();
    assert_eq!(
        pairs,
        [
            ("metadata[]".into(), "a".into()),
            ("metadata[]".into(), "b.c".into())
        ]
    );
}

async fn walked(server: &MockServer) -> Result<Vec<i64>, Error> {
    let client = client(&server.uri());
    let fetch = async |page| {
        let answer = client.get_servers().app(1).page(page).send().await;
        answer.map(|it| it.into_inner()).map_err(Error::from)
    };
    fleet_client::walk(fetch)
        .map_ok(|server| server.id)
        .try_collect()
        .await
}

#[tokio::test]
async fn a_walk_ends_after_the_last_page() {
    let server = MockServer::start().await;
    for (number, ids) in [(1, vec![1, 2]), (2, vec![3, 4]), (3, vec![5])] {
        let servers: Vec<_> = ids.into_iter().map(server_090).collect();
        Mock::given(query_param("page", number.to_string()))
            .respond_with(ResponseTemplate::new(200).set_body_json(page(&servers, number, 3)))
            .expect(1)
            .mount(&server)
            .await;
    }
    assert_eq!(walked(&server).await.expect("a walk"), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_walk_ends_at_an_empty_page_and_at_an_error() {
    let server = serve(ResponseTemplate::new(200).set_body_json(page(&[], 1, 9))).await;
    assert_eq!(walked(&server).await.expect("a walk"), [0_i64; 0]);
    let server = serve(ResponseTemplate::new(404).set_body_json(json!({"message": "no"}))).await;
    assert!(matches!(walked(&server).await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn a_service_that_repeats_a_page_does_not_hold_a_walk_forever() {
    let body = page(&[server_090(1)], 1, 9);
    let server = serve(ResponseTemplate::new(200).set_body_json(body)).await;
    assert!(matches!(
        walked(&server).await,
        Err(Error::BadResponse { .. })
    ));
}
