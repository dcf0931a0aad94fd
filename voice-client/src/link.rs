//! One connection to one voice server: its main stream, the way to open streams of rooms, and voice.

mod data_channel;
mod end;
mod frames;
mod web_socket;
mod web_transport;

use std::{sync::Arc, time::Duration};

use rmpv::Value;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use self::{
    end::{StreamEnd, Verdict},
    frames::Frames,
    web_transport::Endpoint,
};
use crate::{
    error::ConnectError,
    shared::Shared,
    wire::rpc::{self, Incoming, Params},
};

/// One step of the way in, and one answer on the main stream: some round trips, and a server that has much to do.
pub(crate) const STEP_TIME_MAX: Duration = Duration::from_secs(10);

/// See the module.
pub(crate) struct Link {
    main: Frames,
    opener: Opener,
    next_id: u64,
    /// What is cancelled when the connection is over, by whoever sees it first.
    pub(crate) gone: CancellationToken,
    /// Whoever carries voice ends with this.
    _guard: DropGuard,
}

/// How streams are opened.
enum Opener {
    WebSocket(web_socket::Dialer),
    WebTransport(Box<web_transport::Session>),
}

/// Why a call on the main stream came to nothing.
#[derive(Debug)]
pub(crate) enum MainError {
    Refused(String),
    Broken(StreamEnd),
}

impl Link {
    /// Connects by WebSockets, with the address and the token that were given; voice is not there yet.
    pub(crate) async fn web_socket(
        tls: &Arc<rustls::ClientConfig>,
        address: &str,
    ) -> Result<Self, ConnectError> {
        let dialer = web_socket::Dialer::new(tls, address);
        let main = dialer.open("/main").await?;
        Ok(Self::new(
            Frames::WebSocket(Box::new(main)),
            Opener::WebSocket(dialer),
        ))
    }

    /// Connects by WebTransport.
    pub(crate) async fn web_transport(
        endpoint: &mut Endpoint,
        address: &str,
    ) -> Result<Self, ConnectError> {
        let session = endpoint.connect(address).await?;
        let main = session.open().await.map_err(ConnectError::Broken)?;
        Ok(Self::new(
            Frames::WebTransport(Box::new(main)),
            Opener::WebTransport(Box::new(session)),
        ))
    }

    fn new(main: Frames, opener: Opener) -> Self {
        let gone = CancellationToken::new();
        Self {
            main,
            opener,
            next_id: 0,
            _guard: gone.clone().drop_guard(),
            gone,
        }
    }

    /// Makes voice flow, which is the last step of the way in.
    pub(crate) async fn carry_voice(&mut self, shared: &Arc<Shared>) -> Result<(), ConnectError> {
        if let Opener::WebTransport(session) = &self.opener {
            tokio::spawn(web_transport::carry(
                web_transport::Session::clone(session),
                Arc::clone(shared),
                self.gone.clone(),
            ));
            return Ok(());
        }
        let local = match &self.main {
            Frames::WebSocket(main) => main.local_ip(),
            Frames::WebTransport(_) => None,
        };
        let local = local.ok_or_else(|| ConnectError::Voice("no local address".to_owned()))?;
        let offer = data_channel::Offer::new(local).await?;
        let params = Params::default().text("sdp", offer.sdp());
        let answer = self.call("SetupWebRtc", params).await;
        let answer = answer.map_err(MainError::into_connect_error)?;
        let answer = answer["sdp"].as_str().unwrap_or_default();
        offer
            .answered(answer, Arc::clone(shared), self.gone.clone())
            .await
    }

    /// Calls on the main stream.
    pub(crate) async fn call(&mut self, method: &str, params: Params) -> Result<Value, MainError> {
        let id = self.next_id;
        self.next_id += 1;
        let frame = rpc::request(id, method, params);
        let answered = async {
            self.main.send(frame).await?;
            loop {
                let frame = self.main.next().await?;
                match rpc::parse(&frame).map_err(|rpc::Garbage| StreamEnd::Garbage)? {
                    Some(Incoming::Answer {
                        id: answered,
                        result,
                    }) if answered == id => return Ok(result),
                    // Nothing else is of interest here; notifications come in rooms.
                    _ => {}
                }
            }
        };
        let answered = timeout(STEP_TIME_MAX, answered).await;
        let answered = answered.unwrap_or_else(|_| {
            let silence = format!("{method} was not answered");
            Err(StreamEnd::Lost(silence))
        });
        answered
            .map_err(MainError::Broken)?
            .map_err(MainError::Refused)
    }

    /// Opens the stream of a room.
    pub(crate) async fn open_room(&self, name: &str) -> Result<Frames, StreamEnd> {
        let opened = async {
            match &self.opener {
                Opener::WebSocket(dialer) => {
                    let stream = dialer.open(&format!("/room?{name}")).await;
                    let stream = stream.map_err(|error| StreamEnd::Lost(error.to_string()))?;
                    Ok(Frames::WebSocket(Box::new(stream)))
                }
                Opener::WebTransport(session) => {
                    let stream = session.open().await.map_err(StreamEnd::Lost)?;
                    let mut stream = Frames::WebTransport(Box::new(stream));
                    stream.send(name.as_bytes().to_vec()).await?;
                    Ok(stream)
                }
            }
        };
        let opened = timeout(STEP_TIME_MAX, opened).await;
        opened.unwrap_or_else(|_| Err(StreamEnd::Lost("a stream does not open".to_owned())))
    }

    /// Waits for the end; may be dropped at any time.
    pub(crate) async fn ended(&mut self) -> StreamEnd {
        loop {
            tokio::select! {
                biased;
                frame = self.main.next() => if let Err(end) = frame {
                    return end;
                },
                () = self.gone.cancelled() => {
                    return StreamEnd::Lost("the voice connection has ended".to_owned());
                }
            }
        }
    }

    /// Says goodbye.
    pub(crate) async fn leave(self) {
        match self.opener {
            Opener::WebSocket(_) => self.main.leave().await,
            Opener::WebTransport(session) => session.leave().await,
        }
    }
}

impl MainError {
    pub(crate) fn into_connect_error(self) -> ConnectError {
        match self {
            Self::Refused(text) => ConnectError::Refused(text),
            Self::Broken(end) => ConnectError::Broken(end.to_string()),
        }
    }
}
