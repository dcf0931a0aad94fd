//! The way into ODIN voice servers: checks customers' tokens, keeps rooms on servers, hands out session tokens and
//! carries moderation.

mod grid;

pub use grid::{
    Action, Applied, BANS_MAX, Barred, Binding, Command, Connect, Delivery, Grid, LastReport,
    Outcome, Pick, Pool, ROOMS_MAX, Refused, SERVERS_MAX, Server as VoiceServer, ServerRef,
    ServerReport, TASK_BYTES_MAX, TASKS_MAX, TaskKey, Timestamp, Timing, Usage, UsageLimits,
    WaitingTask,
};
