//! The command line of a load test.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use clap::Args;
use gateway_api::AccessKey;

use crate::{
    limit::Bounds,
    plan::{Pattern, Place, Plan},
    relay::Link,
    samples::Looks,
};

/// Put a voice server under load and say what its listeners got
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Rooms
    #[arg(long, default_value_t = 5)]
    pub(crate) rooms: u32,
    /// Peers of each room
    #[arg(long, default_value_t = 10)]
    pub(crate) peers: u32,
    /// Peers of each room who talk
    #[arg(long, default_value_t = 2)]
    pub(crate) talkers: u32,
    /// Packets of a talker in a second
    #[arg(long, default_value_t = 50)]
    pub(crate) rate: u32,
    /// Bytes of a voice datagram, head and all
    #[arg(long, default_value_t = 100)]
    pub(crate) packet_bytes: usize,
    /// When talkers talk
    #[arg(long, value_enum, default_value_t = Pattern::Constant)]
    pub(crate) pattern: Pattern,
    /// Peers that come in a second
    #[arg(long, default_value_t = 100.0)]
    pub(crate) ramp: f64,
    /// Seconds of talking before anything counts
    #[arg(long, default_value_t = 2.0)]
    pub(crate) warm_up: f64,
    /// Seconds that count
    #[arg(long, default_value_t = 10.0)]
    pub(crate) duration: f64,
    /// Nobody talks before everybody is in
    #[arg(long)]
    pub(crate) silent_ramp: bool,
    /// Seconds after those that count in which everybody stays, and fewer talk; the last of them are reported apart
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    pub(crate) then: f64,
    /// Peers of each room who talk then
    #[arg(long, value_name = "TALKERS", default_value_t = 0, requires = "then")]
    pub(crate) then_talkers: u32,
    /// Peers in a second that leave, and come again
    #[arg(long, default_value_t = 0.0)]
    pub(crate) churn: f64,
    /// Of a hundred peers, how many use a data channel; the others use WebTransport
    #[arg(long, default_value_t = 100)]
    pub(crate) data_channels: u32,
    /// Position changes of each peer in a second
    #[arg(long, default_value_t = 0.0)]
    pub(crate) moves: f64,
    /// Where they are
    #[arg(long, value_enum, default_value_t = Place::Spot)]
    pub(crate) place: Place,
    /// What chance follows from
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Seconds between two looks at memory, clients and forwarding time of the server while it counts; 0 for none
    #[arg(long, default_value_t = 0.0)]
    pub(crate) look: f64,

    /// Put a bad network between peers and server: of a hundred UDP packets, how many it loses in each direction
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    pub(crate) relay_loss: f64,
    /// Milliseconds that a packet is under way in it
    #[arg(long, value_name = "MS", default_value_t = 0.0)]
    pub(crate) relay_delay_ms: f64,
    /// Milliseconds that it may be more or less; packets overtake each other then
    #[arg(long, value_name = "MS", default_value_t = 0.0)]
    pub(crate) relay_jitter_ms: f64,
    /// Of a hundred packets, how many come twice
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    pub(crate) relay_duplicates: f64,
    /// What the network's chance follows from
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub(crate) relay_seed: u64,

    /// Measure the floor instead: a relay that only receives and sends plain UDP
    #[arg(long, conflicts_with_all = ["server", "gateway", "shards", "coalescing_us"])]
    pub(crate) floor: bool,
    /// A voice server that runs, host:port; without this and --gateway one is started here
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["gateway", "server_core", "shards", "coalescing_us"])]
    pub(crate) server: Option<String>,
    /// Where native clients reach the server that runs; its own address if not given
    #[arg(long, value_name = "ADDRESS", requires = "server")]
    pub(crate) quic: Option<String>,
    /// A gateway that runs; it places the rooms
    #[arg(long, value_name = "URL", conflicts_with_all = ["server_core", "shards", "coalescing_us"])]
    pub(crate) gateway: Option<String>,
    /// Access key that signs the peers' tokens. Others on this machine can see it here
    #[arg(long, value_name = "KEY", conflicts_with = "key_file")]
    pub(crate) access_key: Option<AccessKey>,
    /// File with the access key
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// PEM file with the certificates that are trusted, of a server or a gateway that runs
    #[arg(long, value_name = "FILE")]
    pub(crate) trust: Option<PathBuf>,
    /// Metrics of a server that runs, to be read at the beginning and at the end
    #[arg(long, value_name = "URL")]
    pub(crate) metrics: Option<String>,
    /// Process of a server that runs on this machine, to see what it uses
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// Program of the server that is started; otherwise what lies beside this program, or in the path
    #[arg(long, value_name = "FILE")]
    pub(crate) server_program: Option<PathBuf>,
    /// Core that the server is started on, as taskset has it
    #[arg(long, value_name = "CORE")]
    pub(crate) server_core: Option<String>,
    /// Threads of the started server that forward voice
    #[arg(long)]
    pub(crate) shards: Option<u8>,
    /// Microseconds that the started server may hold voice back to send more of it at once
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) coalescing_us: Option<u32>,

    /// Raise the load step by step until listeners notice
    #[arg(long)]
    pub(crate) find_limit: bool,
    /// Listeners notice when 99 of 100 packets take longer than this, in milliseconds
    #[arg(long, default_value_t = 20.0, requires = "find_limit")]
    pub(crate) p99_max_ms: f64,
    /// Listeners notice when of a hundred packets more than this do not come
    #[arg(long, default_value_t = 0.1, requires = "find_limit")]
    pub(crate) loss_max_percent: f64,
    /// Draw latency and processor time over the load, as SVG
    #[arg(long, value_name = "FILE", requires = "find_limit")]
    pub(crate) chart: Option<PathBuf>,

    /// Look at the server every so often, and write what it uses and shows then, each time a line of JSON
    #[arg(long, value_name = "FILE", conflicts_with = "find_limit")]
    pub(crate) samples: Option<PathBuf>,
    /// Seconds between two of these looks
    #[arg(long, default_value_t = 5.0, requires = "samples")]
    pub(crate) sample_every: f64,
    /// Seconds from when everybody has left to the last of them
    #[arg(long, default_value_t = 10.0, requires = "samples")]
    pub(crate) settle: f64,

    /// Write the report as JSON; - is standard output, and then there is nothing else on it
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

impl Options {
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            p99_us: self.p99_max_ms * 1_000.0,
            loss: self.loss_max_percent / 100.0,
        }
    }

    fn link(&self) -> Option<Link> {
        let link = Link {
            loss_percent: self.relay_loss,
            delay_ms: self.relay_delay_ms,
            jitter_ms: self.relay_jitter_ms,
            duplicate_percent: self.relay_duplicates,
            seed: self.relay_seed,
        };
        (!link.is_perfect()).then_some(link)
    }

    /// # Errors
    /// When a time is not one.
    pub(crate) fn looks(&self) -> Result<Option<Looks>> {
        let Some(file) = &self.samples else {
            return Ok(None);
        };
        let every = Duration::try_from_secs_f64(self.sample_every)?;
        ensure!(!every.is_zero(), "no time between two samples");
        Ok(Some(Looks {
            file: file.clone(),
            every,
            settle: Duration::try_from_secs_f64(self.settle)?,
        }))
    }

    pub(crate) fn plan(&self) -> Plan {
        Plan {
            rooms: self.rooms,
            peers: self.peers,
            talkers: self.talkers,
            rate: self.rate,
            packet_bytes: self.packet_bytes,
            pattern: self.pattern,
            ramp: self.ramp,
            warm_up_s: self.warm_up,
            duration_s: self.duration,
            is_ramp_silent: self.silent_ramp,
            then_s: self.then,
            then_talkers: self.then_talkers,
            churn: self.churn,
            data_channel_percent: self.data_channels,
            is_floor: self.floor,
            moves: self.moves,
            place: self.place,
            seed: self.seed,
            link: self.link(),
            look_s: self.look,
        }
    }
}
