//! What all calls share.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use gateway_api::{KeyPair, MasterKey};
use tokio::sync::Semaphore;

use crate::{
    config::Config,
    customers::Customers,
    grid::{Delivery, SERVERS_MAX},
    metrics::Metrics,
    rate_limit::RateLimits,
    store::Store,
};

/// A gateway at work.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) config: Config,
    pub(crate) store: Arc<Store>,
    pub(crate) customers: Arc<Customers>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) rates: RateLimits,
    pub(crate) server_keys: ServerKeys,
    pub(crate) permits: Semaphore,
    draining: AtomicBool,
}

impl Gateway {
    pub(crate) fn new(
        config: Config,
        store: Arc<Store>,
        customers: Arc<Customers>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            rates: RateLimits::new(&config.limit),
            server_keys: ServerKeys::new(config.master_key.clone()),
            permits: Semaphore::new(config.limit.requests),
            draining: AtomicBool::new(false),
            config,
            store,
            customers,
            metrics,
        }
    }

    /// Time since 1970, for tokens.
    pub(crate) fn now(&self) -> Duration {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.unwrap_or_default()
    }

    /// From now on the gateway is not ready: it is about to end.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Measures how long tasks took to their server.
    pub(crate) fn count_released(&self, delivery: &Delivery) {
        let now = self.store.now();
        for task in &delivery.released {
            self.metrics.task_delivered(now.since(task.queued));
        }
    }
}

/// The keys of servers. They can be derived at any time; kept, that is done once.
#[derive(Debug)]
pub(crate) struct ServerKeys {
    master: MasterKey,
    known: RwLock<HashMap<String, Arc<KeyPair>>>,
}

impl ServerKeys {
    fn new(master: MasterKey) -> Self {
        Self {
            master,
            known: RwLock::default(),
        }
    }

    /// The key of the server at an address.
    pub(crate) fn of(&self, address: &str) -> Arc<KeyPair> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = known.get(address) {
            return Arc::clone(key);
        }
        drop(known);
        let key = Arc::new(self.master.server_key(address));
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        // More than there can be servers: most are gone, and what is needed comes back.
        if known.len() >= SERVERS_MAX {
            known.clear();
        }
        known.insert(address.to_owned(), Arc::clone(&key));
        key
    }
}
