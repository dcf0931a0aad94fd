//! The store with a real Redis: several gateways' stores in one process, or gateway programs, and a server process
//! that is ended, emptied and paused under them.

mod load;
mod outages;
mod processes;
mod redis_server;
mod sharing;
mod upkeep;
mod world;
