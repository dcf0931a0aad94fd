//! What keeps a game server from running.

use std::{net::SocketAddr, path::PathBuf};

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An address is taken or not ours.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The journal cannot be written.
    #[error("cannot append to the journal {}", path.display())]
    Journal {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The Fleet's address is not usable.
    #[error("the Fleet client cannot be made")]
    Client(#[from] fleet_client::BuildError),
    /// The Fleet refused the first announcement: nobody would ever find this server.
    #[error("the server cannot mark itself idle")]
    Announce(#[source] fleet_client::Error),
}
