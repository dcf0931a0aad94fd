//! What nobody else looks after: matches whose bridge is gone, leases that have ended, matches that a game server
//! finished by itself, and servers that something has left behind.

use std::time::Duration;

use super::{
    claim::{self, Claim, Judge},
    flow::{Stop, Work, new_id, read_match, read_server},
    record::{Hold, Match, Next, Reason, ServerClaim, Stage},
    world::World,
};
use crate::{
    model::Server,
    store::{Timestamp, Unavailable, Version},
};

/// How long after the end of its lease a match that no store knows is left to whoever may still know it.
const ORPHAN_GRACE: Duration = Duration::from_secs(30);

/// Goes on with a match that is due.
///
/// # Errors
/// [`Stop`].
pub(crate) async fn resume<W: World>(world: &W, id: &str) -> Result<(), Stop> {
    let Some(read) = read_match(world, id).await? else {
        return Ok(());
    };
    if read.value.due().is_none_or(|due| world.now() < due) {
        return Ok(());
    }
    let mut work = Work::on(world, read);
    let is_pending = matches!(
        work.record.stage,
        Stage::Seeking
            | Stage::Claimed(_)
            | Stage::Leaving {
                next: Next::Seek,
                ..
            }
    );
    if is_pending && work.record.background.is_none() && work.record.ending.is_none() {
        // Its caller went away with the bridge that worked for it.
        work.record.ending = Some(Reason::Cancelled);
    }
    work.drive().await
}

/// Whether a server deserves [`check`], going by what was known of it a moment ago.
pub(crate) fn is_suspicious(server: &Server, known: &ServerClaim, judge: &Judge<'_>) -> bool {
    let state = claim::state(server, judge.keys);
    match &known.match_id {
        Some(id) => {
            let says_it_runs = state == claim::OCCUPIED
                && claim::running_match(server).is_none_or(|running| running == id);
            let claim = Claim::read(&server.metadata);
            let is_claimed =
                claim.is_some_and(|it| it.owner == judge.owner && it.fence == known.fence);
            !says_it_runs || !is_claimed
        }
        None => left_behind(server, known, judge).is_some(),
    }
}

/// Looks at a server, and puts in order what is not: its match, or what something has left behind.
///
/// # Errors
/// [`Stop`].
pub(crate) async fn check<W: World>(world: &W, server: i64) -> Result<(), Stop> {
    let (known, version) = read_server(world, server).await?;
    if let Some(id) = &known.match_id {
        return match read_match(world, id).await? {
            Some(read) => Work::on(world, read).check().await,
            None => Ok(()),
        };
    }
    let Ok(seen) = world.read(server).await else {
        return Ok(());
    };
    let judge = Judge {
        keys: world.keys(),
        owner: world.owner(),
        heartbeat: None,
        now: world.now(),
    };
    let Some(finish) = left_behind(&seen, &known, &judge) else {
        return Ok(());
    };
    match repair(world, &seen, &known, version, finish).await? {
        Some(mut work) => work.drive().await,
        // Somebody else has it by now.
        None => Ok(()),
    }
}

/// What became of the wish to keep a server from being claimed.
#[derive(Debug)]
pub(crate) enum Kept<'w, W> {
    /// Nobody claims it until this work is driven to its end, which makes it free again.
    Ours(Box<Work<'w, W>>),
    /// This match, or work on the server, has it.
    By(String),
    /// Somebody was quicker: look again.
    Changed,
}

/// Keeps a server that is free from being claimed.
///
/// # Errors
/// The store is away.
pub(crate) async fn keep<'w, W: World>(
    world: &'w W,
    server: &Server,
) -> Result<Kept<'w, W>, Unavailable> {
    let (known, version) = read_server(world, server.id).await?;
    if let Some(id) = known.match_id {
        return Ok(Kept::By(id));
    }
    let work = repair(world, server, &known, version, None).await?;
    Ok(work.map_or(Kept::Changed, |work| Kept::Ours(Box::new(work))))
}

/// Claims a free server for work on itself: the match that is to be `finish`ed there, and its metadata. `None`: it is
/// not free any more.
async fn repair<'w, W: World>(
    world: &'w W,
    seen: &Server,
    known: &ServerClaim,
    version: Option<Version>,
    finish: Option<String>,
) -> Result<Option<Work<'w, W>>, Unavailable> {
    let server = seen.id;
    let api = world.match_api(seen);
    let hold = Hold {
        server,
        fence: known
            .fence
            .max(claim::fence(&seen.metadata))
            .saturating_add(1),
        // Without a way to ask the game server, the metadata alone are put in order.
        finish: finish.filter(|_| api.is_some()),
        api: api.unwrap_or_default(),
        is_allocated: false,
    };
    let repair = Match::repair(
        new_id(world.now(), world.random()),
        hold.clone(),
        world.now(),
    );
    let claimed = ServerClaim {
        fence: hold.fence,
        match_id: Some(repair.id.clone()),
    };
    let claimed = Some((claimed.put(server), version));
    Work::create(world, repair, Vec::new(), claimed).await
}

/// What a server that is free in the store still shows of an earlier match, and the match to be finished there.
fn left_behind(server: &Server, known: &ServerClaim, judge: &Judge<'_>) -> Option<Option<String>> {
    let state = claim::state(server, judge.keys);
    let Some(claim) = Claim::read(&server.metadata) else {
        // Nobody's: two updates of which the older one arrived last.
        let is_left = state == claim::RESERVED || claim::is_empty(server, judge.keys);
        let is_released = server.metadata.contains_key(claim::CLAIM_KEY);
        return (is_released && is_left).then_some(None);
    };
    let is_known = claim.owner == judge.owner && claim.fence <= known.fence;
    let is_over = |until: Timestamp, grace: Duration| is_known || !judge.is_ahead(until + grace);
    match state {
        claim::RESERVED | claim::IDLE if is_over(claim.expires_at, Duration::ZERO) => Some(None),
        claim::OCCUPIED if is_over(claim.lease_until, ORPHAN_GRACE) => {
            let running = claim::running_match(server);
            let is_its_own = running.is_none_or(|running| running == claim.match_id);
            Some(is_its_own.then(|| claim.match_id.clone()))
        }
        _ => None,
    }
}
