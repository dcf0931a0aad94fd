//! `Connect`: a customer's token in, a server's address and a session token for it out.

use gateway_api::{POSITIONS, SessionClaims, sign};
use serde_json::json;

use super::{Caller, identity::Identity};
use crate::{
    auth::Licensee,
    error::RpcError,
    grid::{Action, Connect, Outcome, Pick, UsageLimits},
    rpc::CallResult,
    state::Gateway,
};

pub(super) async fn connect(gateway: &Gateway, caller: &Caller, licensee: &Licensee) -> CallResult {
    let identity = Identity::read(&licensee.claims)?;
    check_limits(gateway, licensee)?;
    let rooms = identity.room_ids(&licensee.namespace)?;
    let action = Action::Connect(Connect {
        pool: caller.pool.clone(),
        rooms,
        customer: licensee.customer.clone(),
        user: identity.user.clone(),
        forced: identity.server.clone(),
        preferred: identity.preferred.clone(),
        pick: Pick::Roll(fastrand::u64(..)),
    });
    let Outcome::Connected(address) = gateway.store.submit(action).await else {
        return Err(RpcError::internal(None));
    };
    let address = address?;

    let key = gateway.server_keys.of(&address);
    let lifetime = gateway.config.timing.token_lifetime.as_secs();
    let mut claims = SessionClaims::new(
        (&identity.user, &identity.rooms),
        (&licensee.customer, &licensee.namespace),
        &address,
        seconds(gateway.now().as_secs()),
        seconds(lifetime),
    );
    if licensee.restrictions.names(POSITIONS) {
        claims = claims.with_positions();
    }
    Ok(json!({"address": address, "token": sign(&claims, &key)}))
}

/// A limit counts what servers reported up to the last tick.
fn check_limits(gateway: &Gateway, licensee: &Licensee) -> Result<(), RpcError> {
    if licensee.limits == UsageLimits::default() {
        return Ok(());
    }
    let used = gateway.store.read(|grid| grid.usage(&licensee.customer));
    let is_reached = |limit: Option<u64>, used| limit.is_some_and(|limit| used >= limit);
    if is_reached(licensee.limits.peers, used.peers) {
        return Err(RpcError::refused("peer limit exceeded"));
    }
    if is_reached(licensee.limits.rooms, used.rooms) {
        return Err(RpcError::refused("room limit exceeded"));
    }
    Ok(())
}

fn seconds(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
