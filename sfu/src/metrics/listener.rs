//! The listener for operators: `/metrics` for subnets that may see them, `/healthz` and `/readyz` for everybody.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{ConnectInfo, State},
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use axum_server::{Handle, accept::NoDelayAcceptor};
use hyper_util::rt::TokioTimer;
use ipnet::IpNet;

use super::Metrics;
use crate::config;

/// Longest time for the head of a request, and between two requests of a connection: longer than Prometheus waits
/// between two looks by default is not needed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time for answers that are under way when the server ends.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// What metrics are written in: <https://prometheus.io/docs/instrumenting/content_negotiation/>.
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Whether the server can take clients, or why not.
type Ready = dyn Fn() -> Result<(), &'static str> + Send + Sync;

#[derive(Clone)]
struct Shared {
    metrics: Arc<Metrics>,
    allowed: Arc<[IpNet]>,
    ready: Arc<Ready>,
}

/// A listener whose port is open.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    router: Router,
}

/// Opens the port. `ready` says whether the server can take clients; `/readyz` is answered 503 with its reason when not.
///
/// # Errors
/// When the port is taken or not ours.
pub(crate) fn bind(
    config: &config::Metrics,
    metrics: Arc<Metrics>,
    ready: impl Fn() -> Result<(), &'static str> + Send + Sync + 'static,
) -> io::Result<Listener> {
    let socket = TcpListener::bind(config.binding)?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    let shared = Shared {
        metrics,
        allowed: config.allowed.clone().into(),
        ready: Arc::new(ready),
    };
    let router = Router::new()
        .route("/metrics", get(show))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(is_ready))
        .with_state(shared);
    Ok(Listener {
        socket,
        address,
        router,
    })
}

impl Listener {
    /// Where it listens.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`.
    ///
    /// # Errors
    /// When the port cannot be served from.
    pub(crate) async fn run(self, stop: impl Future<Output = ()> + Send) -> io::Result<()> {
        let handle = Handle::new();
        // Whoever sends a head byte by byte, or none, must not hold a connection for ever. Looking for HTTP/2 would wait
        // for the first bytes without an end, and nobody here needs it.
        let mut server = axum_server::from_tcp(self.socket)?
            .acceptor(NoDelayAcceptor::new())
            .http1_only()
            .handle(handle.clone());
        server
            .http_builder()
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT);
        let service = self
            .router
            .into_make_service_with_connect_info::<SocketAddr>();
        let serve = server.serve(service);
        tokio::pin!(serve);
        tokio::select! {
            ended = &mut serve => return ended,
            () = stop => handle.graceful_shutdown(Some(DRAIN_TIMEOUT)),
        }
        serve.await
    }
}

async fn show(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
) -> Response {
    if !is_allowed(&shared.allowed, peer.ip()) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let text = shared.metrics.text(Instant::now());
    ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response()
}

async fn is_ready(State(shared): State<Shared>) -> Response {
    match (shared.ready)() {
        Ok(()) => "ok\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

/// Addresses of IPv4 are such also where they come in by IPv6.
fn is_allowed(allowed: &[IpNet], peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    allowed.iter().any(|subnet| subnet.contains(&peer))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
        sync::oneshot,
        task::JoinHandle,
    };

    use super::*;
    use crate::metrics::tests::config;

    struct World {
        address: SocketAddr,
        is_ready: Arc<AtomicBool>,
        stop: oneshot::Sender<()>,
        running: JoinHandle<io::Result<()>>,
    }

    impl World {
        fn start(allowed: &[&str]) -> Self {
            let mut config = config(&[]);
            config.allowed = allowed.iter().map(|it| it.parse().unwrap()).collect();
            let metrics = Arc::new(Metrics::new(&config, 1, &[], None));
            let is_ready = Arc::new(AtomicBool::new(true));
            let ready = Arc::clone(&is_ready);
            let listener = bind(&config, metrics, move || {
                match ready.load(Ordering::Relaxed) {
                    true => Ok(()),
                    false => Err("draining"),
                }
            });
            let listener = listener.unwrap();
            let address = listener.local_addr();
            let (stop, stopped) = oneshot::channel::<()>();
            let running = tokio::spawn(listener.run(async {
                let _ = stopped.await;
            }));
            Self {
                address,
                is_ready,
                stop,
                running,
            }
        }

        async fn get(&self, path: &str) -> (u16, String) {
            let url = format!("http://{}{path}", self.address);
            let answer = reqwest::get(url).await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        }
    }

    #[tokio::test]
    async fn metrics_and_health_are_served_until_the_end() {
        let world = World::start(&["127.0.0.1/8"]);
        let (status, text) = world.get("/metrics").await;
        assert_eq!(status, 200);
        assert!(text.ends_with("# EOF\n"), "{text}");
        assert_eq!(world.get("/healthz").await, (200, "ok\n".to_owned()));
        assert_eq!(world.get("/readyz").await, (200, "ok\n".to_owned()));
        world.is_ready.store(false, Ordering::Relaxed);
        assert_eq!(world.get("/readyz").await, (503, "draining\n".to_owned()));
        assert_eq!(world.get("/other").await.0, 404);
        world.stop.send(()).unwrap();
        world.running.await.unwrap().unwrap();
        assert!(TcpStream::connect(world.address).await.is_err());
    }

    #[tokio::test]
    async fn metrics_are_for_those_who_may_see_them_and_health_for_all() {
        for allowed in [&["10.0.0.0/8", "::1/128"][..], &[]] {
            let world = World::start(allowed);
            assert_eq!(world.get("/metrics").await, (403, String::new()));
            assert_eq!(world.get("/healthz").await.0, 200);
            assert_eq!(world.get("/readyz").await.0, 200);
        }
    }

    #[test]
    fn ipv4_is_the_same_when_it_comes_by_ipv6() {
        let allowed: [IpNet; 2] = ["10.1.2.3/8", "fd00::/8"].map(|it| it.parse().unwrap());
        for (peer, expected) in [
            ("10.200.0.1", true),
            ("::ffff:10.200.0.1", true),
            ("11.0.0.1", false),
            ("::ffff:11.0.0.1", false),
            ("fd12::1", true),
            ("fe80::1", false),
        ] {
            assert_eq!(
                is_allowed(&allowed, peer.parse().unwrap()),
                expected,
                "{peer}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_come_ends_the_connection() {
        let world = World::start(&[]);
        for head in ["GET /healthz HTTP/1.1\r\n", ""] {
            let mut stream = TcpStream::connect(world.address).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut rest = Vec::new();
            let read = stream.read_to_end(&mut rest);
            let ended = tokio::time::timeout(HEAD_TIMEOUT * 2, read).await;
            assert!(ended.is_ok(), "{head:?}: the connection is open");
        }
    }
}
