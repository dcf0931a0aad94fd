//! Whose tokens are taken: the customers' keys, from the settings or from elsewhere again and again.

mod source;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use gateway_api::{Jwk, PublicKey, is_published};
use serde::{Deserialize, Serialize};

use crate::{
    config::{Config, CustomerSource, UnknownCustomers},
    grid::UsageLimits,
    metrics::Metrics,
};

/// Most keys of all customers together.
const KEYS_MAX: usize = 1_000_000;

/// A customer, in the form a customer API gives.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Customer {
    /// Its id.
    pub id: String,
    /// Most peers in all rooms.
    #[serde(default)]
    pub max_peers: Option<u64>,
    /// Most rooms.
    #[serde(default)]
    pub max_rooms: Option<u64>,
    /// Keys whose tokens are the customer's.
    pub access_keys: Vec<CustomerKey>,
}

/// A key of a customer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CustomerKey {
    /// Where its rooms are; the customer's id if not given.
    #[serde(default)]
    pub namespace: Option<String>,
    /// What checks its signatures. The key id is used as it is given.
    pub public_key: Jwk,
}

impl Customer {
    /// One without limits, whose rooms are in a namespace of its id.
    pub fn with_key(id: impl Into<String>, public_key: Jwk) -> Self {
        Self {
            id: id.into(),
            max_peers: None,
            max_rooms: None,
            access_keys: vec![CustomerKey {
                namespace: None,
                public_key,
            }],
        }
    }
}

/// A key that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownKey {
    /// The customer's id.
    pub(crate) customer: String,
    /// Where its rooms are.
    pub(crate) namespace: String,
    /// What the customer may use.
    pub(crate) limits: UsageLimits,
    /// What checks its signatures.
    pub(crate) key: PublicKey,
}

type Keys = HashMap<String, Arc<KnownKey>>;

/// The keys that are known now.
#[derive(Debug)]
pub(crate) struct Customers {
    keys: ArcSwap<Keys>,
    source: CustomerSource,
    allow_published: bool,
    state: Mutex<State>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct State {
    loaded: Option<Instant>,
    error: Option<String>,
}

/// How it stands with the list of customers.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CustomerHealth {
    /// Keys that are known.
    keys: usize,
    /// Since the last good list; `None` when there was none yet, or the settings hold it.
    age_seconds: Option<u64>,
    /// Why the last list was not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl CustomerHealth {
    pub(crate) fn keys(&self) -> usize {
        self.keys
    }

    pub(crate) fn age_seconds(&self) -> Option<u64> {
        self.age_seconds
    }

    /// Whether any token can be taken.
    pub(crate) fn is_usable(&self, config: &Config) -> bool {
        self.keys > 0 || config.unknown_customers != UnknownCustomers::Forbidden
    }
}

impl Customers {
    /// Knows the keys of the settings, or none until the first [`refresh`](Self::refresh).
    pub(crate) fn new(config: &Config, metrics: Arc<Metrics>) -> Self {
        let customers = Self {
            keys: ArcSwap::default(),
            source: config.customers.clone(),
            allow_published: config.allow_published_keys,
            state: Mutex::default(),
            metrics,
        };
        if let CustomerSource::Static(list) = &customers.source {
            customers.keys.store(Arc::new(customers.index(list)));
        }
        customers
    }

    /// The key with this id.
    pub(crate) fn find(&self, kid: &str) -> Option<Arc<KnownKey>> {
        self.keys.load().get(kid).cloned()
    }

    /// How it stands.
    pub(crate) fn health(&self) -> CustomerHealth {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        CustomerHealth {
            keys: self.keys.load().len(),
            age_seconds: state.loaded.map(|loaded| loaded.elapsed().as_secs()),
            error: state.error.clone(),
        }
    }

    /// Time between two refreshes, if there are any.
    pub(crate) fn update_interval(&self) -> Option<Duration> {
        match &self.source {
            CustomerSource::Static(_) => None,
            CustomerSource::File {
                update_interval, ..
            }
            | CustomerSource::Http {
                update_interval, ..
            } => Some(*update_interval),
        }
    }

    /// Reads the list anew. A list that is empty or broken changes nothing but what [`health`](Self::health) says.
    pub(crate) async fn refresh(&self) {
        let result = match source::read(&self.source).await {
            Ok(None) => return,
            Ok(Some(list)) => match self.index(&list) {
                keys if keys.is_empty() => Err("the list holds no usable key".to_owned()),
                keys => Ok(keys),
            },
            Err(error) => Err(error),
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(keys) => {
                if self.keys.load().len() != keys.len() {
                    tracing::info!(keys = keys.len(), "customers' keys have changed");
                }
                self.keys.store(Arc::new(keys));
                state.loaded = Some(Instant::now());
                state.error = None;
                self.metrics.customers_refreshed(true);
            }
            Err(error) => {
                tracing::warn!("customers are not refreshed, the last good list stays: {error}");
                state.error = Some(error);
                self.metrics.customers_refreshed(false);
            }
        }
    }

    fn index(&self, customers: &[Customer]) -> Keys {
        let mut keys = Keys::new();
        for customer in customers {
            for access in &customer.access_keys {
                let kid = access.public_key.kid.as_str();
                let skip = |reason: &str| {
                    tracing::warn!(customer = customer.id, kid, "a key is left out: {reason}");
                };
                let key = match access.public_key.public() {
                    Ok(key) => key,
                    Err(error) => {
                        skip(&error.to_string());
                        continue;
                    }
                };
                if is_published(&key) && !self.allow_published {
                    skip("everybody knows its private half");
                } else if keys.contains_key(kid) {
                    skip("its id is given twice");
                } else if keys.len() >= KEYS_MAX {
                    skip("there are too many");
                } else {
                    let known = known(customer, access, key);
                    keys.insert(kid.to_owned(), Arc::new(known));
                }
            }
        }
        keys
    }
}

fn known(customer: &Customer, access: &CustomerKey, key: PublicKey) -> KnownKey {
    KnownKey {
        customer: customer.id.clone(),
        namespace: access
            .namespace
            .clone()
            .unwrap_or_else(|| customer.id.clone()),
        limits: UsageLimits {
            peers: customer.max_peers,
            rooms: customer.max_rooms,
        },
        key,
    }
}

#[cfg(test)]
mod tests;
