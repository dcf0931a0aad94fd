//! Where customers come from, and secrets that settings name.

use std::collections::BTreeSet;

use gateway_api::{Jwk, is_published};
use service::{Settings, SettingsError};

use super::{CustomerSource, file::File, seconds};
use crate::customers::{Customer, CustomerKey};

pub(super) fn customer_source(
    settings: &Settings,
    file: &File,
) -> Result<CustomerSource, SettingsError> {
    let Some(api) = &file.customer_api else {
        let customers = static_customers(settings, file)?;
        return Ok(CustomerSource::Static(customers));
    };
    if !file.customers.is_empty() {
        return Err(settings.error("customer_api", "[[customers]] are set as well: keep one"));
    }
    let interval = api.update_interval.unwrap_or(300.0);
    let update_interval = seconds(settings, "customer_api.update_interval", interval)?;
    match (&api.url, &api.file) {
        (None, Some(path)) => Ok(CustomerSource::File {
            path: path.clone(),
            update_interval,
        }),
        (Some(url), None) => {
            let is_http = reqwest::Url::parse(url)
                .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
            if !is_http {
                let problem = "it must be an http:// or https:// address";
                return Err(settings.error("customer_api.url", problem));
            }
            Ok(CustomerSource::Http {
                url: url.clone(),
                token: settings.named_secret(
                    "customer_api",
                    api.token_env.as_deref(),
                    ("token_file", api.token_file.as_deref()),
                )?,
                update_interval,
            })
        }
        _ => Err(settings.error("customer_api", "it needs either url or file")),
    }
}

fn static_customers(settings: &Settings, file: &File) -> Result<Vec<Customer>, SettingsError> {
    let mut kids = BTreeSet::new();
    let mut customers = Vec::with_capacity(file.customers.len());
    for (at, customer) in file.customers.iter().enumerate() {
        let mut access_keys = Vec::with_capacity(customer.access_keys.len());
        for (key_at, key) in customer.access_keys.iter().enumerate() {
            let place = |field: &str| format!("customers[{at}].access_keys[{key_at}].{field}");
            let jwk = Jwk {
                kid: key.kid.clone(),
                kty: key.kty.clone(),
                crv: key.crv.clone(),
                x: key.x.clone(),
                d: None,
            };
            let public = jwk
                .public()
                .map_err(|error| settings.error(&place("x"), error.to_string()))?;
            if is_published(&public) && !file.allow_published_keys {
                let problem = "everybody knows the private half of this key: `bifrost access-key new` makes a new one";
                return Err(settings.error(&place("x"), problem));
            }
            if !kids.insert(&key.kid) {
                return Err(settings.error(&place("kid"), "this key id is given twice"));
            }
            access_keys.push(CustomerKey {
                namespace: key.namespace.clone(),
                public_key: jwk,
            });
        }
        customers.push(Customer {
            id: customer.id.clone(),
            max_peers: customer.max_peers,
            max_rooms: customer.max_rooms,
            access_keys,
        });
    }
    Ok(customers)
}
