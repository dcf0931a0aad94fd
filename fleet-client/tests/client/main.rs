//! The client against a server that answers what it is told to.

mod reading;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use fleet_client::{Attempt, Builder, Client, Error, Outcome, RetryPolicy, Token, types};
use reading::server_090;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpListener};

use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{header, method, path},
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

async fn refused(status: u16, body: Value) -> (Error, usize) {
    let server = serve(ResponseTemplate::new(status).set_body_json(body)).await;
    let error = get(&client(&server.uri())).await.expect_err("a refusal");
    (error, calls(&server).await)
}

async fn calls(server: &MockServer) -> usize {
    server.received_requests().await.expect("recorded").len()
}

fn expect_time_out(error: &Error) {
    let Error::Unavailable { timed_out, .. } = error else {
        panic!("{error:?}")
    };
    assert!(timed_out, "{error:?}");
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
async fn a_refusal_is_final_where_another_time_changes_nothing() {
    for (status, is_final) in [
        (401, true),
        (403, true),
        (404, true),
        (409, true),
        (422, true),
        (429, false),
        (503, false),
    ] {
        let (error, _) = refused(status, json!({"message": "no"})).await;
        assert_eq!(error.is_final(), is_final, "{status}: {error:?}");
    }
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
    expect_time_out(&error);
    assert!(deadline.elapsed() < Duration::from_secs(5));
    let error = get(&client).await.expect_err("no time at all");
    expect_time_out(&error);
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
    expect_time_out(&error);
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
