//! A request for a match that can be repeated: the same key gives the same match, whoever works on it and however
//! often whoever asks goes away.

use std::time::Duration;

use super::{
    flow::{Read, Stop, Work, new_id, read_match},
    record::{Background, KeyOwner, Match, Stage},
    request::MatchRequest,
    world::World,
};
use crate::store::{Key, Timestamp, Unavailable, Version};

/// Between two looks at a match that somebody else works on.
const WAIT_PAUSE: Duration = Duration::from_millis(50);

/// A request with everything that identifies it.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// Hash of the key under which it can be repeated; none for work that nobody repeats.
    pub(crate) key: Option<String>,
    /// Hash of the request.
    pub(crate) digest: String,
    pub(crate) request: MatchRequest,
    pub(crate) give_up_at: Timestamp,
    pub(crate) background: Option<Background>,
}

/// What became of a wish.
#[derive(Clone, Debug)]
pub(crate) enum Obtained {
    /// The match, running or over; pending when there was no more time to wait.
    Match(Box<Match>),
    /// The key stands for another request.
    KeyReused,
}

/// Has a match made, or waits for the one that is being made under this key. `patience` is how long a match may take
/// to give back its server after the time for looking has ended.
///
/// # Errors
/// The store is away.
pub(crate) async fn obtain<W: World>(
    world: &W,
    wish: &Wish,
    patience: Duration,
) -> Result<Obtained, Unavailable> {
    loop {
        let mut work = match find(world, wish).await? {
            Found::Nothing(key) => match create(world, wish, key).await? {
                Some(work) => work,
                None => continue,
            },
            Found::Another => return Ok(Obtained::KeyReused),
            Found::Match(read) => {
                let now = world.now();
                let is_done = matches!(read.value.stage, Stage::Running(_) | Stage::Ended(_));
                if is_done && !read.value.came_to_nothing() {
                    return Ok(Obtained::Match(Box::new(read.value)));
                }
                let is_worked_on = read.value.worker.is_some_and(|worker| now < worker.until);
                let is_late = wish.give_up_at + patience <= now || world.is_abandoned();
                if is_late || read.value.reason().is_some() && wish.give_up_at <= now {
                    return Ok(Obtained::Match(Box::new(read.value)));
                }
                if !is_done && (is_worked_on || read.value.reason().is_some()) {
                    world.sleep(WAIT_PAUSE).await;
                    continue;
                }
                Work::on(world, *read)
            }
        };
        match work.obtain(wish.give_up_at).await {
            // Whoever wanted it to end was somebody else: a request under the same key that went away, for one.
            Ok(())
                if work.record.is_repeatable()
                    && world.now() < wish.give_up_at
                    && !world.is_abandoned() => {}
            Ok(()) | Err(Stop::PutOff | Stop::Waits) => {
                return Ok(Obtained::Match(Box::new(work.record)));
            }
            Err(Stop::Superseded) => {}
            Err(Stop::Away(error)) => return Err(error),
        }
    }
}

/// Writes down a match that is made in the background, or finds the one under this key, whatever became of it.
///
/// # Errors
/// The store is away.
pub(crate) async fn begin<W: World>(world: &W, wish: &Wish) -> Result<Obtained, Unavailable> {
    loop {
        match find(world, wish).await? {
            Found::Another => return Ok(Obtained::KeyReused),
            Found::Match(read) => return Ok(Obtained::Match(Box::new(read.value))),
            Found::Nothing(key) => {
                if let Some(work) = create(world, wish, key).await? {
                    return Ok(Obtained::Match(Box::new(work.record)));
                }
            }
        }
    }
}

enum Found {
    /// No match; the version of what is left of the key.
    Nothing(Option<Version>),
    /// The key stands for another request.
    Another,
    Match(Box<Read<Match>>),
}

async fn find<W: World>(world: &W, wish: &Wish) -> Result<Found, Unavailable> {
    let Some(key) = &wish.key else {
        return Ok(Found::Nothing(None));
    };
    let document = world
        .load(&[Key::Idempotency(key.clone())])
        .await?
        .pop()
        .flatten();
    let Some(document) = document else {
        return Ok(Found::Nothing(None));
    };
    let owner: Result<KeyOwner, _> = serde_json::from_str(&document.text);
    let owner = owner.map_err(|error| Unavailable::unreadable(&error))?;
    if owner.digest != wish.digest {
        return Ok(Found::Another);
    }
    let read = read_match(world, &owner.match_id).await?;
    Ok(read.map_or(Found::Nothing(Some(document.version)), |read| {
        Found::Match(Box::new(read))
    }))
}

/// Makes the match; `None` when somebody else has just made it.
async fn create<'w, W: World>(
    world: &'w W,
    wish: &Wish,
    key: Option<Version>,
) -> Result<Option<Work<'w, W>>, Unavailable> {
    let now = world.now();
    let id = new_id(now, world.random());
    let mut record = Match::new(id, wish.request.clone(), now, wish.give_up_at);
    record.key.clone_from(&wish.key);
    record.digest.clone_from(&wish.digest);
    record.background.clone_from(&wish.background);
    record.seat(&wish.request.players, None, || world.random());
    let expect = wish
        .key
        .iter()
        .map(|name| (Key::Idempotency(name.clone()), key))
        .collect();
    Work::create(world, record, expect, None).await
}
