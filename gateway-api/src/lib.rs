//! What a gateway, its voice servers, its customers and the token tools agree on: access keys, tokens, rooms, reports,
//! tasks and the settings a gateway recommends. No IO, no clock, no randomness of its own.

mod access_key;
mod claims;
mod grid_config;
mod key;
mod published;
mod report;
mod room;
mod server_key;
mod task;
mod token;

pub use access_key::{AccessKey, AccessKeyError, RANDOM_BYTES};
pub use claims::{Claims, Internal, Names, POSITIONS, SessionClaims};
pub use grid_config::{Recommendation, merge};
pub use key::{Jwk, JwkError, KeyId, KeyKind, KeyPair, PublicKey};
pub use published::is_published;
pub use report::{Report, ReportAnswer, ReportedRoom, ServerKind};
pub use room::{RoomHash, RoomId};
pub use server_key::{MASTER_KEY_BYTES_MIN, MasterKey, MasterKeyError};
pub use task::{QueuedTask, Span, Task};
pub use token::{ClaimsObject, Restrictions, Rules, Token, TokenError, Verified, sign};
