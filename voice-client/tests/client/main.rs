//! Clients against whole servers, over their sockets.

mod gateway;
mod quic_server;
mod relay;
mod returning;
mod rooms;
mod web_transport;
mod world;
