//! A network between one client and the server that can be slow, or end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::UdpSocket,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

/// Packets under way in one direction.
const PACKETS_MAX: usize = 65_536;

/// Stands between one client and the server. Ends with its value.
pub(crate) struct Relay {
    /// Where the client is to send to.
    pub(crate) address: SocketAddr,
    /// The socket that the server sees as the client.
    pub(crate) outside: Arc<UdpSocket>,
    is_cut: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Carries packets each way in `delay`.
    pub(crate) async fn new(server: SocketAddr, delay: Duration) -> Self {
        let bind = || async { Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a port")) };
        let (inside, outside) = (bind().await, bind().await);
        outside.connect(server).await.expect("an address");
        let address = inside.local_addr().expect("an address");
        let (is_cut, cut) = watch::channel(false);
        let (client, known) = watch::channel(None);
        let (up, to_server) = mpsc::channel(PACKETS_MAX);
        let (down, to_client) = mpsc::channel(PACKETS_MAX);
        let tasks = vec![
            tokio::spawn(take(
                Arc::clone(&inside),
                delay,
                up,
                Some(client),
                cut.clone(),
            )),
            tokio::spawn(take(Arc::clone(&outside), delay, down, None, cut)),
            tokio::spawn(give(Arc::clone(&outside), to_server, None)),
            tokio::spawn(give(inside, to_client, Some(known))),
        ];
        Self {
            address,
            outside,
            is_cut,
            tasks,
        }
    }

    /// From now on nothing comes through, in either direction, and nobody is told.
    pub(crate) fn cut(&self, is_cut: bool) {
        self.is_cut.send_replace(is_cut);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn take(
    socket: Arc<UdpSocket>,
    delay: Duration,
    to: mpsc::Sender<(Instant, Vec<u8>)>,
    source: Option<watch::Sender<Option<SocketAddr>>>,
    is_cut: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 2_048];
    loop {
        // Errors are of packets sent before: somebody is gone.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        if *is_cut.borrow() {
            continue;
        }
        if let Some(source) = &source {
            source.send_replace(Some(from));
        }
        // What finds no place is lost, as in any network.
        let _ = to.try_send((Instant::now() + delay, buffer[..length].to_vec()));
    }
}

async fn give(
    socket: Arc<UdpSocket>,
    mut packets: mpsc::Receiver<(Instant, Vec<u8>)>,
    to: Option<watch::Receiver<Option<SocketAddr>>>,
) {
    while let Some((due, bytes)) = packets.recv().await {
        sleep_until(due).await;
        let _ = match &to {
            None => socket.send(&bytes).await,
            Some(to) => {
                let to = *to.borrow();
                match to {
                    Some(to) => socket.send_to(&bytes, to).await,
                    None => continue,
                }
            }
        };
    }
}
