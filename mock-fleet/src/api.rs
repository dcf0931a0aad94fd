//! The HTTP face of the simulator: a table of operations, each a plain function from the call and
//! the state to an answer. Nothing here knows how long anything takes.

mod answer;
mod apps;
mod auth;
mod autoscaling;
mod binaries;
mod call;
mod configs;
mod operations;
mod registries;
mod router;
mod services;
mod settings;
mod templates;

pub(crate) use self::answer::message;
pub(crate) use self::operations::OPERATIONS;
pub(crate) use self::router::{Shared, router};
