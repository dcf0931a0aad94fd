//! A running server, and the Fleet that it writes to.

use std::{future::Future, net::SocketAddr, time::Duration};

use mock_game_server::{Config, Server};
use serde_json::{Value, json};
use tokio::{
    net::UdpSocket,
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers};

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Running {
    pub(crate) fleet: MockServer,
    pub(crate) base: String,
    pub(crate) game: SocketAddr,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) ended: JoinHandle<Result<(), fleet_client::Error>>,
}

pub(crate) fn accepted() -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({
        "id": 42, "appLocationSettingId": 1, "instance": 1, "serverConfigId": 1, "serverConfigName": "c",
        "name": "n", "status": "running", "status_message": null, "isBackupable": false,
        "isRestorable": false, "isPending": false, "isNotFound": false, "isHealthy": true,
        "isStopped": false, "maintenance": false, "ports": [], "env": {},
        "restartPolicy": {"condition": "any"},
        "location": {"city": "c", "cityDisplay": "C", "continent": "europe", "country": "de",
            "isProtected": false},
        "resources": {"id": 1, "name": "S", "slug": "s", "type": "shared", "cpuLimit": "1",
            "memoryLimitBytes": 1, "memoryLimitMiB": 1, "memoryLimitFileSizeString": "1"},
        "backups": [], "metadata": {}, "createdAt": null, "updatedAt": null
    }))
}

/// A failure that is not tried again within the same call.
pub(crate) fn refused() -> ResponseTemplate {
    ResponseTemplate::new(403).set_body_json(json!({"message": "not you"}))
}

/// As [`refused`], but one that passes.
pub(crate) fn away() -> ResponseTemplate {
    ResponseTemplate::new(503)
        .insert_header("retry-after", "60")
        .set_body_json(json!({"message": "later"}))
}

/// From now on the Fleet answers like this. Forgets earlier updates.
pub(crate) async fn answer_with(fleet: &MockServer, template: ResponseTemplate) {
    fleet.reset().await;
    Mock::given(matchers::method("PATCH"))
        .and(matchers::path("/api/v1/services/42/metadata"))
        .and(matchers::header("authorization", "Bearer t0ken"))
        .respond_with(template)
        .mount(fleet)
        .await;
}

/// The metadata of every update so far.
pub(crate) async fn updates(fleet: &MockServer) -> Vec<Value> {
    let requests = fleet.received_requests().await.expect("recorded");
    let body = |request: &wiremock::Request| {
        let body: Value = serde_json::from_slice(&request.body).expect("JSON");
        body["metadata"].clone()
    };
    requests.iter().map(body).collect()
}

/// Waits for the first update whose state is this, and returns it.
pub(crate) async fn update_to(fleet: &MockServer, state: &str) -> Value {
    let found = async {
        loop {
            let all = updates(fleet).await;
            if let Some(update) = all.iter().find(|it| it["instance_state"] == state) {
                return update.clone();
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, found).await.expect("an update in time")
}

/// Lets this much time pass at once.
pub(crate) async fn skip(duration: Duration) {
    tokio::time::pause();
    tokio::time::advance(duration).await;
    tokio::time::resume();
}

pub(crate) fn config(fleet: &MockServer) -> Config {
    Config::local(format!("{}/api", fleet.uri()), "t0ken", 42).expect("a config")
}

impl Running {
    pub(crate) async fn start(adjust: impl FnOnce(&mut Config)) -> Self {
        let fleet = MockServer::start().await;
        answer_with(&fleet, accepted()).await;
        Self::against(fleet, adjust).await
    }

    pub(crate) async fn against(fleet: MockServer, adjust: impl FnOnce(&mut Config)) -> Self {
        let mut config = config(&fleet);
        adjust(&mut config);
        let server = Server::bind(config).await.expect("a server");
        let base = format!("http://{}", server.http_addr());
        let game = server.game_addr();
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = tokio::spawn(server.run(async move {
            let _ = stopped.await;
        }));
        Self {
            fleet,
            base,
            game,
            stop,
            ended,
        }
    }

    pub(crate) fn post(
        &self,
        path: &str,
        body: &str,
    ) -> impl Future<Output = (u16, Value)> + use<> {
        let request = reqwest::Client::new()
            .post(format!("{}{path}", self.base))
            .body(body.to_owned());
        async {
            let response = request.send().await.expect("an answer");
            let status = response.status().as_u16();
            (status, response.json().await.expect("JSON"))
        }
    }

    pub(crate) async fn ends(self) -> (Result<(), fleet_client::Error>, Value) {
        self.stop.send(()).expect("it runs");
        let ended = timeout(PATIENCE, self.ended).await;
        let result = ended.expect("in time").expect("no panic");
        (result, updates(&self.fleet).await.pop().expect("an update"))
    }

    pub(crate) async fn ping(&self, datagram: &str) -> String {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        socket.connect(self.game).await.expect("an address");
        socket.send(datagram.as_bytes()).await.expect("sent");
        let mut buffer = [0; 1024];
        let received = timeout(PATIENCE, socket.recv(&mut buffer)).await;
        let length = received.expect("in time").expect("a pong");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }
}
