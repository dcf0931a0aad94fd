//! The streams of native clients, as shards bring them.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::timeout};

use super::{close::Close, main_stream, room_stream, socket::Socket};
use crate::{
    control::{Control, Phase},
    metrics::Connection,
    shard::{Arrival, Came, Ending, Pipe},
};

/// How long a stream may take to say which room it is of: a client does it at once.
const NAME_TIME: Duration = Duration::from_secs(10);

/// The end of a stream whose name nobody knows.
const NO_SUCH_STREAM: Ending = Ending {
    code: 404,
    reason: "no such stream",
    is_orderly: false,
};

/// Serves streams until there are no more shards.
pub(crate) async fn serve(control: Arc<Control>, mut arrivals: mpsc::Receiver<Arrival>) {
    while let Some(arrival) = arrivals.recv().await {
        let control = Arc::clone(&control);
        tokio::spawn(async move {
            match arrival {
                Arrival::Main(pipe) => main(control, pipe).await,
                Arrival::Room(pipe) => room(control, pipe).await,
            }
        });
    }
}

async fn main(control: Arc<Control>, mut pipe: Pipe) {
    let refusal = match *control.phase().borrow() {
        Phase::Serving => Close::Overloaded,
        Phase::Draining | Phase::Leaving | Phase::Closing => Close::ServerClosing,
    };
    let stranger = Arc::clone(&control.strangers).try_acquire_owned().ok();
    match stranger.filter(|_| refusal != Close::ServerClosing) {
        None => {
            control.metrics.closed(refusal.label());
            pipe.end(refusal.ending()).await;
        }
        Some(stranger) => {
            let _open = control.metrics.connection(Connection::Quic);
            main_stream::serve(control, Socket::Quic(pipe), stranger).await;
        }
    }
}

async fn room(control: Arc<Control>, mut pipe: Pipe) {
    let ticket = match timeout(NAME_TIME, pipe.receive()).await {
        Ok(Some(Came::Frame(name))) => {
            let name = std::str::from_utf8(&name).ok();
            name.and_then(|name| control.tickets.redeem(name))
        }
        Ok(_) | Err(_) => None,
    };
    match ticket {
        None => {
            control.metrics.closed("no_such_stream");
            pipe.end(NO_SUCH_STREAM).await;
        }
        Some(ticket) => {
            let _open = control.metrics.connection(Connection::Quic);
            room_stream::serve(control, Socket::Quic(pipe), ticket).await;
        }
    }
}
