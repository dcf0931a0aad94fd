//! Every cap of the core that no setting changes, with its unit and its reason.

/// Bytes of a voice datagram: what the web client's decoder takes, and what still travels as one packet.
pub const DATAGRAM_BYTES_MAX: usize = 1_400;

/// Media ids in one datagram: native clients name one for each room they talk in, at most four.
pub const DATAGRAM_MEDIAS_MAX: usize = 4;

/// Bytes of the user data of a peer or a room. Everybody who joins gets those of all peers in one frame.
pub const USER_DATA_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a message to other peers.
pub const MESSAGE_BYTES_MAX: usize = 32 * 1024;

/// Bytes of a media's properties as they are forwarded: a kind and some words.
pub const PROPERTIES_BYTES_MAX: usize = 512;

/// Bytes of a room's name, and of a user's.
pub const NAME_BYTES_MAX: usize = 1024;

/// Bytes of a session description: a browser's has about 500, and the network may send anything.
pub const SDP_BYTES_MAX: usize = 32 * 1024;

/// Bytes of a token: longer ones cost time before they are refused.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Bytes of the key that a lost peer comes back with: those of the server have 22.
pub const RESUME_KEY_BYTES_MAX: usize = 64;

/// Bytes of one frame of a client: the largest command with its names.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;

/// How deep a frame may be nested: commands need four levels.
pub const FRAME_DEPTH_MAX: usize = 16;

/// Streams that a peer can be limited to hearing, as in the ODIN server.
pub const CONCURRENT_STREAMS_MAX: usize = 8;

/// Bans and closed rooms that are remembered; beyond that the one that ends first is forgotten.
pub const BANS_MAX: usize = 100_000;

/// Users of one room whose places are remembered, in the room or not: more than can hear each other.
pub const PLACES_MAX: usize = 16_384;

/// Mutes that are remembered on the whole server; one more is refused.
pub const MUTES_MAX: usize = 100_000;

/// Bytes of the reason for a mute: a sentence.
pub const REASON_BYTES_MAX: usize = 256;

/// How far behind the newest packet of a media another may be: 64 packets of 20 ms.
pub const REPLAY_WINDOW: u32 = 64;
