//! The TCP listener of web clients: TLS, then HTTP/1.1 for as long as it takes to become a WebSocket. Every step has a
//! time, because whoever stops in the middle of one must not hold a connection for ever.

use std::{
    future::Future,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    certificate::Certificate,
    metrics::{Connection, Metrics},
};

/// Longest TLS handshake: a client far away with a bad link.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// Longest time from there to a WebSocket. Who asks for something else gets its answers in this time, and whoever does
/// not read them must not hold the connection.
const HTTP_TIME: Duration = Duration::from_secs(10);

/// Connections that are not yet streams: handshakes and heads of requests. More wait to be taken.
const CONNECTIONS_MAX: usize = 65_536;

/// After a failed accept: without file descriptors, the next one would fail at once as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listener whose port is open.
#[derive(Debug)]
pub(crate) struct WebListener {
    socket: TcpListener,
    certificate: Certificate,
    metrics: Arc<Metrics>,
}

impl WebListener {
    /// # Errors
    /// When the port is taken or not ours.
    pub(crate) fn bind(
        address: SocketAddr,
        certificate: Certificate,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let socket = StdListener::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: TcpListener::from_std(socket)?,
            certificate,
            metrics,
        })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Takes connections until `stop`; those that are open go on.
    pub(crate) async fn run(self, router: Router, stop: impl Future<Output = ()> + Send) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        tokio::pin!(stop);
        loop {
            let taken = async {
                // The semaphore is never closed.
                let place = Arc::clone(&places).acquire_owned().await.ok();
                (self.socket.accept().await, place)
            };
            let (accepted, place) = tokio::select! {
                () = &mut stop => return,
                taken = taken => taken,
            };
            match accepted {
                Ok((stream, _)) => self.serve(stream, router.clone(), place),
                Err(error) => {
                    tracing::warn!("a connection cannot be taken: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn serve(&self, stream: TcpStream, router: Router, place: Option<OwnedSemaphorePermit>) {
        let tls = TlsAcceptor::from(self.certificate.current());
        let metrics = Arc::clone(&self.metrics);
        let open = metrics.connection(Connection::Http);
        tokio::spawn(async move {
            let _held = (open, place);
            // Frames are small and must not wait for each other.
            let _ = stream.set_nodelay(true);
            let Ok(Ok(stream)) = timeout(HANDSHAKE_TIME, tls.accept(stream)).await else {
                return metrics.closed("handshake");
            };
            let connection = http1::Builder::new()
                .header_read_timeout(None)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
                .with_upgrades();
            // A client that breaks off is no failure of ours.
            let _ = timeout(HTTP_TIME, connection).await;
        });
    }
}
