//! Voice servers as services on the Fleet: they find themselves there, say how they do, and a room whose voice server
//! goes finds another.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::Path,
    time::Duration,
};

use gateway::{Customer, CustomerSource};
use gateway_api::{AccessKey, MasterKey, sign};
use mock_fleet::World;
use serde_json::{Value, json};
use sfu::{Ended, SelfSigned};
use tokio::{
    runtime::Runtime,
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

const TOKEN: &str = "local-development-token";

/// Nothing here takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two reports of a voice server to the gateway, and between two ticks of the gateway.
const UPDATE_INTERVAL: Duration = Duration::from_millis(300);

/// A voice server that is silent for so long gets no more rooms.
const DISABLE_TIMEOUT: Duration = Duration::from_secs(1);

/// What a busy machine may add to a time.
const SLACK: Duration = Duration::from_secs(3);

/// A simulated Fleet with two voice services, and a gateway.
struct Scene {
    fleet: String,
    gateway: String,
    internal: String,
    key: AccessKey,
    http: reqwest::Client,
    /// The port of each service, on its node.
    ports: [u16; 2],
}

impl Scene {
    /// The first service has the ports of its node inside its container as well, the second has others there.
    async fn start() -> Self {
        let ports = free_ports();
        let world = World::from_toml(&world(ports, [ports[0], 4433]), "test").expect("a world");
        let fleet = mock_fleet::Server::bind(mock_fleet::Config::new(world)).await;
        let fleet = fleet.expect("a free port");
        let fleet_url = fleet.base_url();
        tokio::spawn(fleet.run(std::future::pending()));

        let key = AccessKey::from_random(&[8; 31]);
        let customer = Customer::with_key("studio", key.key_pair().public_jwk());
        let master = MasterKey::from_bytes(vec![9; 32]);
        let mut config = gateway::Config::new(master, CustomerSource::Static(vec![customer]));
        config.listen = (Ipv4Addr::LOCALHOST, 0).into();
        config.internal.listen = Some((Ipv4Addr::LOCALHOST, 0).into());
        config.timing.update_interval = UPDATE_INTERVAL;
        config.timing.disable_timeout = DISABLE_TIMEOUT;
        let gateway = gateway::Server::bind(config).await.expect("free ports");
        let (url, internal) = (gateway.base_url(), gateway.internal_url());
        tokio::spawn(gateway.run(std::future::pending()));
        Self {
            fleet: fleet_url,
            gateway: url,
            internal,
            key,
            http: reqwest::Client::builder()
                .no_proxy()
                .build()
                .expect("a client"),
            ports,
        }
    }

    /// What a service's voice server is known by.
    fn address(&self, at: usize) -> String {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[at])).to_string()
    }

    /// Settings of the voice server of a service: none says where it is reached.
    fn settings(&self, at: usize, certificate: &SelfSigned) -> String {
        let binding = self.address(at);
        let files = certificate.files();
        let interval = u64::try_from(UPDATE_INTERVAL.as_millis()).expect("not that long");
        let text = json!({
            "supervisor": { "url": self.internal, "report_interval": interval, "no_warmup": true },
            "http": {
                "binding": binding,
                "webrtc_binding": binding,
                "certificate_file": files.certificate_file,
                "privatekey_file": files.privatekey_file,
                "shards": 1,
            },
            "metrics": { "binding": "127.0.0.1:0" },
            // No report is due within a test but the first: what comes after that came at once.
            "fleet": { "app_id": 1, "api_url": self.fleet, "report_interval": 600_000 },
        });
        let text = toml::Table::try_from(text).expect("no nulls");
        toml::to_string(&text).expect("TOML")
    }

    /// Both services.
    async fn services(&self) -> Vec<Value> {
        let url = format!("{}/v1/apps/1/services?sort[]=id", self.fleet);
        let answer = self.http.get(url).bearer_auth(TOKEN).send().await;
        let list: Value = answer.expect("an answer").json().await.expect("JSON");
        list["data"].as_array().expect("a list").clone()
    }

    /// The metadata of both services.
    async fn metadata(&self) -> Vec<Value> {
        let services = self.services().await.into_iter();
        services.map(|it| it["metadata"].clone()).collect()
    }

    /// Waits until what a service says of its voice server is as wanted.
    async fn says(&self, at: usize, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let metadata = self.metadata().await.swap_remove(at);
            if is_wanted(&metadata["voice_node"]) {
                return metadata;
            }
            assert!(began.elapsed() < PATIENCE, "{metadata}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// A token for a room that is to live on the voice server of a service.
    fn token(&self, room: &str, at: usize) -> String {
        let internal = json!({"prefer": self.address(at)});
        let claims = json!({"rid": room, "uid": "alice", "internal": internal});
        sign(&claims, &self.key.key_pair())
    }

    /// The voice server that a token's room lives on, as the gateway answers.
    async fn connect(&self, token: &str) -> Value {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "Connect", "params": {}});
        let request = self.http.post(&self.gateway).bearer_auth(token);
        let answer = request.json(&call).send().await.expect("an answer");
        let answer: Value = answer.json().await.expect("JSON");
        answer["result"]["address"].clone()
    }

    /// Waits until the gateway sends rooms to both voice servers as they wish.
    async fn is_known(&self) {
        let began = Instant::now();
        for at in 0..2 {
            let mut tries = 0;
            loop {
                // A room stays where it is: each try is another.
                let token = self.token(&format!("try-{at}-{tries}"), at);
                if self.connect(&token).await == self.address(at) {
                    break;
                }
                assert!(began.elapsed() < PATIENCE, "server {at} is not known");
                tries += 1;
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// A voice server on a runtime of its own, which can end as suddenly as a process that is killed.
struct Node {
    runtime: Option<Runtime>,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Ended>,
    /// Its files are there until the end.
    _certificate: SelfSigned,
}

impl Node {
    async fn start(scene: &Scene, at: usize, service_id: Option<i64>) -> Self {
        let certificate = SelfSigned::new(&[Ipv4Addr::LOCALHOST.into()]).expect("a certificate");
        let text = scene.settings(at, &certificate);
        let mut variables = HashMap::from([("ODIN_API_TOKEN".to_owned(), TOKEN.to_owned())]);
        if let Some(id) = service_id {
            variables.insert("ODIN_SERVICE_ID".to_owned(), id.to_string());
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (stop, stopped) = oneshot::channel::<()>();
        let (bound, is_bound) = oneshot::channel();
        let ended = runtime.spawn(async move {
            let config = sfu::settle(Path::new("test"), &text, variables).await;
            let server = sfu::Server::bind(config.expect("settled"), None).await;
            let server = server.expect("its ports");
            let _ = bound.send(());
            let shutdown = async {
                // Dropped or sent, it means the same.
                let _ = stopped.await;
            };
            server
                .run(shutdown, std::future::pending(), Duration::ZERO)
                .await
        });
        timeout(PATIENCE, is_bound)
            .await
            .expect("in time")
            .expect("it starts");
        Self {
            runtime: Some(runtime),
            stop,
            ended,
            _certificate: certificate,
        }
    }

    /// Ends it as SIGTERM does.
    async fn end(mut self) {
        drop(self.stop);
        let ended = timeout(PATIENCE, self.ended).await.expect("it ends");
        assert_eq!(ended.expect("no panic"), Ended::Asked);
        // A runtime may not wait for its end within another.
        self.runtime
            .take()
            .expect("it is running")
            .shutdown_background();
    }

    /// Ends it in the middle of everything.
    fn kill(mut self) {
        self.runtime
            .take()
            .expect("it is running")
            .shutdown_background();
    }
}

/// Ports that are free for TCP and for UDP.
fn free_ports() -> [u16; 2] {
    // Held until both are there, or the second could be the first.
    let held = [reserve(), reserve()];
    held.map(|(tcp, _)| tcp.local_addr().expect("an address").port())
}

fn reserve() -> (TcpListener, UdpSocket) {
    for _ in 0..100 {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = tcp.local_addr().expect("an address");
        if let Ok(udp) = UdpSocket::bind(address) {
            return (tcp, udp);
        }
    }
    panic!("no port is free for both");
}

/// Two voice services on this machine, each with one number for TCP and UDP: those published on the node, and those
/// inside the containers.
fn world(published: [u16; 2], targets: [u16; 2]) -> String {
    let service = |name: &str, target: u16| {
        format!(
            r#"
[[apps.configs]]
name = "{name}"
binary = "voice"
resource_package = "small"
ports = [
    {{ name = "voice_http", protocols = ["tcp"], target_port = {target} }},
    {{ name = "voice_webrtc", protocols = ["udp"], target_port = {target} }},
]

[[apps.location_settings]]
name = "{name}"
config = "{name}"
city = "limburg"
num_instances = 1
metadata = {{ operator = "studio" }}
"#
        )
    };
    let services = ["first", "second"].map(|name| {
        let at = usize::from(name == "second");
        service(name, targets[at])
    });
    format!(
        r#"
published_ports = {published:?}

[[tokens]]
secret = "{TOKEN}"

[[locations]]
city = "limburg"
city_display = "Limburg"
continent = "europe"
country = "germany"

[[nodes]]
city = "limburg"
address = "127.0.0.1"
capacity = 2

[[resource_packages]]
slug = "small"
name = "Small"
type = "shared"
cpu = 1.0
memory_mib = 1024

[[docker_registries]]
name = "images"
type = "default"
url = "https://registry.example.com"
images = ["studio/voice:1"]

[[apps]]
name = "arena"

[[apps.binaries]]
name = "voice"
version = "1"
type = "dockerImage"
image = "studio/voice:1"
registry = "images"
{}"#,
        services.concat()
    )
}

/// A scene in which both services have their voice server: the first finds itself, the second is told its id.
async fn scene_with_nodes() -> (Scene, [Node; 2]) {
    let scene = Scene::start().await;
    let id = scene.services().await[1]["id"].as_i64();
    let nodes = [
        Node::start(&scene, 0, None).await,
        Node::start(&scene, 1, id).await,
    ];
    scene.is_known().await;
    (scene, nodes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voice_moves_when_its_node_drains_and_the_fleet_hears_of_it_at_once() {
    let (scene, [first, second]) = scene_with_nodes().await;
    for at in 0..2 {
        let metadata = scene.says(at, |it| it["draining"] == false).await;
        let node = &metadata["voice_node"];
        assert_eq!(metadata["instance_state"], "voice");
        assert_eq!(metadata["operator"], "studio", "what was there stays");
        assert_eq!(node["address"], scene.address(at));
        assert_eq!((&node["rooms"], &node["peers"]), (&json!(0), &json!(0)));
        let load = node["load"].as_f64().expect("a number");
        assert!((0.0..=1.0).contains(&load), "{node}");
        let reported = node["reported_at"].as_str().expect("a time");
        chrono::DateTime::parse_from_rfc3339(reported).expect("RFC 3339");
    }
    let token = scene.token("match", 0);
    assert_eq!(scene.connect(&token).await, scene.address(0));

    first.end().await;
    let metadata = scene.metadata().await;
    assert_eq!(metadata[0]["voice_node"]["draining"], true);
    assert_eq!(metadata[0]["instance_state"], "voice");
    assert_eq!(metadata[1]["voice_node"]["draining"], false);
    assert_eq!(scene.connect(&token).await, scene.address(1));
    let another = scene.token("another match", 0);
    assert_eq!(scene.connect(&another).await, scene.address(1));
    second.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voice_moves_when_its_node_is_killed() {
    let (scene, [first, second]) = scene_with_nodes().await;
    let token = scene.token("match", 0);
    assert_eq!(scene.connect(&token).await, scene.address(0));

    first.kill();
    let killed = Instant::now();
    while scene.connect(&token).await != scene.address(1) {
        let most = DISABLE_TIMEOUT + UPDATE_INTERVAL + SLACK;
        assert!(killed.elapsed() < most, "the room stays on a dead server");
        sleep(Duration::from_millis(20)).await;
    }
    let metadata = scene.metadata().await;
    assert_eq!(
        metadata[0]["voice_node"]["draining"], false,
        "nobody said so"
    );
    second.end().await;
}
