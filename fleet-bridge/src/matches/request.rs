//! What a matchmaker asks for, and what of it is refused.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    error::Error,
    query::{Filter, Rules},
};

/// Most players of one match: their ids travel in the metadata, which every List repeats.
pub(crate) const PLAYERS_MAX: usize = 1_000;

/// Most selectors of one request. Each is tried at every look for a server.
const SELECTORS_MAX: usize = 16;

/// Longest user id and team, in bytes; a voice token takes no longer user.
const NAME_BYTES_MAX: usize = 256;

/// Most regions that one player measured.
const REGIONS_MAX: usize = 64;

/// Largest settings of a match, in bytes of JSON: they travel to the game server in one request.
const SETTINGS_BYTES_MAX: usize = 16 * 1024;

/// What the bridge itself says to a game server; settings must not say it otherwise.
pub(crate) const RESERVED_SETTINGS: [&str; 7] = [
    "match_id",
    "user_ids",
    "fence",
    "teams",
    "max_players",
    "voice",
    "outcome",
];

/// A match that is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MatchRequest {
    /// Where the match may run, best first: the first selector that has a free server wins. Without any, every idle
    /// server will do.
    #[serde(default)]
    pub selectors: Vec<Selector>,
    /// Who plays.
    pub players: Vec<Player>,
    /// Seats of the match, for players who join later; as many as there are players where it is left out.
    #[schema(example = 8, minimum = 1)]
    pub max_players: Option<u32>,
    /// Handed to the game server when the match starts, as they are.
    #[serde(default)]
    #[schema(value_type = Object, example = json!({"game_mode": "DEATH_MATCH", "map_guid": "map-01"}))]
    pub settings: Map<String, Value>,
    /// The voice rooms of the match; none where it is left out.
    #[serde(default)]
    pub voice: VoiceWish,
    /// How long the match may run without being renewed, in seconds.
    #[schema(example = 3600, minimum = 1)]
    pub lease_seconds: Option<u64>,
    /// How long to look for a server and to wait for its start, in milliseconds.
    #[schema(example = 10000, minimum = 1)]
    pub deadline_ms: Option<u64>,
}

/// Servers that a match may run on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Selector {
    /// The filter of List: Metadata, Status and Location.
    #[schema(value_type = Object, example = json!({"Location": {"City": "limburg"}}))]
    pub query: Map<String, Value>,
    /// Which of them first.
    pub policy: Policy,
}

/// Which of several free servers is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Where most servers are taken already, so that other places run empty and can be scaled down.
    #[default]
    Packed,
    /// Where fewest servers are taken.
    Spread,
    /// Where the player who is farthest away is nearest.
    Latency,
}

/// One player of a match.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Player {
    /// The matchmaker's id of the user.
    #[schema(example = "user-1")]
    pub user_id: String,
    /// The team, where there are teams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "red")]
    pub team: Option<String>,
    /// What the player measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latencies: Vec<Latency>,
}

/// How far a player is from a region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// A city, country or continent of the Fleet, in any case.
    #[schema(example = "europe")]
    pub region: String,
    /// Round trip in milliseconds.
    #[schema(example = 23.5, minimum = 0)]
    pub ms: f64,
}

/// Which voice rooms a match has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VoiceWish {
    /// One for everybody.
    #[serde(rename = "match")]
    pub for_match: bool,
    /// One for each team.
    #[serde(rename = "teams")]
    pub for_teams: bool,
    /// One in which players hear those who are near.
    #[serde(rename = "proximity")]
    pub by_proximity: bool,
}

impl VoiceWish {
    /// Whether any room is wanted.
    pub fn is_any(self) -> bool {
        self.for_match || self.for_teams || self.by_proximity
    }
}

/// What a request may ask for at most, and what it gets by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) lease_seconds: u64,
    pub(crate) lease_seconds_max: u64,
    pub(crate) deadline_ms: u64,
    pub(crate) deadline_ms_max: u64,
    /// The bridge can hand out voice.
    pub(crate) has_voice: bool,
}

impl MatchRequest {
    /// Fills in what was left out.
    ///
    /// # Errors
    /// `invalid_argument`, `invalid_query` or `unsupported_filter`, naming the field.
    pub(crate) fn check(self, bounds: Bounds, rules: Rules<'_>) -> Result<Self, Error> {
        check_players(&self.players)?;
        self.check_open(bounds, rules)
    }

    /// The same for a match that may begin without players.
    ///
    /// # Errors
    /// Those of [`Self::check`].
    pub(crate) fn check_open(mut self, bounds: Bounds, rules: Rules<'_>) -> Result<Self, Error> {
        if self.selectors.is_empty() {
            self.selectors.push(Selector::default());
        }
        if self.selectors.len() > SELECTORS_MAX {
            return Err(refused("selectors", format!("more than {SELECTORS_MAX}")));
        }
        for (at, selector) in self.selectors.iter().enumerate() {
            selector
                .filter(rules)
                .map_err(|error| error.within(&format!("selectors[{at}].query")))?;
        }
        check_each(&self.players)?;
        let count = u32::try_from(self.players.len()).unwrap_or(u32::MAX);
        let seats = *self.max_players.get_or_insert(count);
        let least = count.max(1);
        if seats < least || seats as usize > PLAYERS_MAX {
            let text =
                format!("it must be from {least} ({count} players are given) to {PLAYERS_MAX}");
            return Err(refused("max_players", text));
        }
        check_settings(&self.settings)?;
        if self.voice.is_any() && !bounds.has_voice {
            let text = "this bridge hands out no voice: its settings have no [voice]";
            return Err(refused("voice", text));
        }
        let lease = *self.lease_seconds.get_or_insert(bounds.lease_seconds);
        check_lease(lease, bounds)?;
        let deadline = *self.deadline_ms.get_or_insert(bounds.deadline_ms);
        within("deadline_ms", deadline, bounds.deadline_ms_max)?;
        Ok(self)
    }

    /// The seats of the match.
    pub(crate) fn seats_max(&self) -> usize {
        self.max_players
            .map_or(self.players.len(), |seats| seats as usize)
    }
}

impl Selector {
    /// What Fleet would be asked for.
    ///
    /// # Errors
    /// `invalid_query` or `unsupported_filter`.
    pub(crate) fn filter(&self, rules: Rules<'_>) -> Result<Filter, Error> {
        if self.query.is_empty() {
            return Ok(Filter::default());
        }
        let is_paging =
            |name: &&String| ["pages", "perpage"].contains(&name.to_lowercase().as_str());
        if let Some(name) = self.query.keys().find(is_paging) {
            let text = "has no meaning here: all servers are looked at";
            return Err(Error::InvalidQuery(format!("`{name}` {text}")));
        }
        Filter::parse(&Value::Object(self.query.clone()).to_string(), rules)
    }
}

/// Whether a lease may last that long.
///
/// # Errors
/// `invalid_argument`.
pub(crate) fn check_lease(lease_seconds: u64, bounds: Bounds) -> Result<(), Error> {
    within("lease_seconds", lease_seconds, bounds.lease_seconds_max)
}

/// Whether players can be seated: each with a name of its own.
///
/// # Errors
/// `invalid_argument`, naming the player by position.
pub(crate) fn check_players(players: &[Player]) -> Result<(), Error> {
    if players.is_empty() {
        return Err(refused("players", "there must be one at least".to_owned()));
    }
    check_each(players)
}

fn check_each(players: &[Player]) -> Result<(), Error> {
    if players.len() > PLAYERS_MAX {
        return Err(refused("players", format!("more than {PLAYERS_MAX}")));
    }
    let mut seen = BTreeSet::new();
    for (at, player) in players.iter().enumerate() {
        let name = |field: &str| format!("players[{at}].{field}");
        check_name(&name("user_id"), &player.user_id)?;
        if let Some(team) = &player.team {
            check_name(&name("team"), team)?;
        }
        if !seen.insert(&player.user_id) {
            return Err(refused(&name("user_id"), "it is given twice"));
        }
        if player.latencies.len() > REGIONS_MAX {
            return Err(refused(
                &name("latencies"),
                format!("more than {REGIONS_MAX}"),
            ));
        }
        let is_latency = |it: &Latency| it.ms.is_finite() && it.ms >= 0.0;
        if !player.latencies.iter().all(is_latency) {
            let text = "a latency is a number of milliseconds that is not negative";
            return Err(refused(&name("latencies"), text));
        }
    }
    Ok(())
}

fn check_name(field: &str, name: &str) -> Result<(), Error> {
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains(char::is_control);
    if fits {
        return Ok(());
    }
    let text = format!("it must have 1 to {NAME_BYTES_MAX} bytes and no control characters");
    Err(refused(field, text))
}

fn check_settings(settings: &Map<String, Value>) -> Result<(), Error> {
    if let Some(name) = RESERVED_SETTINGS
        .iter()
        .find(|name| settings.contains_key(**name))
    {
        let text = "the bridge says this to the game server itself";
        return Err(refused(&format!("settings.{name}"), text));
    }
    let length = serde_json::to_string(settings).map_or(usize::MAX, |text| text.len());
    if length > SETTINGS_BYTES_MAX {
        return Err(refused(
            "settings",
            format!("more than {SETTINGS_BYTES_MAX} bytes"),
        ));
    }
    Ok(())
}

fn within(field: &str, value: u64, max: u64) -> Result<(), Error> {
    if (1..=max).contains(&value) {
        return Ok(());
    }
    Err(refused(
        field,
        format!("it must be from 1 to {max}, not {value}"),
    ))
}

fn refused(field: &str, why: impl fmt::Display) -> Error {
    Error::invalid_argument(format!("`{field}`: {why}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{error::Kind, query::Source};

    const RULES: Rules<'static> = Rules {
        state_key: "instance_state",
        per_page_max: 100,
        app_id: 1,
        source: Source::Fleet,
    };
    const BOUNDS: Bounds = Bounds {
        lease_seconds: 3600,
        lease_seconds_max: 86_400,
        deadline_ms: 10_000,
        deadline_ms_max: 60_000,
        has_voice: false,
    };

    fn check(body: Value) -> Result<MatchRequest, Error> {
        serde_json::from_value::<MatchRequest>(body)
            .unwrap()
            .check(BOUNDS, RULES)
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        let request = check(json!({"players": [{"user_id": "a"}, {"user_id": "b"}]})).unwrap();
        assert_eq!(request.selectors, [Selector::default()]);
        assert_eq!(
            (
                request.max_players,
                request.lease_seconds,
                request.deadline_ms
            ),
            (Some(2), Some(3600), Some(10_000))
        );
    }

    #[test]
    fn what_cannot_be_done_is_refused_and_named() {
        let with = |extra: Value| {
            let mut body = json!({"players": [{"user_id": "a"}, {"user_id": "b"}]});
            body.as_object_mut()
                .unwrap()
                .extend(extra.as_object().unwrap().clone());
            body
        };
        for (extra, field) in [
            (json!({"players": []}), "`players`"),
            (
                json!({"players": [{"user_id": ""}]}),
                "`players[0].user_id`",
            ),
            (
                json!({"players": [{"user_id": "a"}, {"user_id": "a"}]}),
                "`players[1].user_id`",
            ),
            (
                json!({"players": [{"user_id": "a", "team": "x\n"}]}),
                "`players[0].team`",
            ),
            (
                json!({"players": [{"user_id": "a", "latencies": [{"region": "eu", "ms": -1}]}]}),
                "`players[0].latencies`",
            ),
            (json!({"max_players": 1}), "`max_players`"),
            (json!({"max_players": 1001}), "`max_players`"),
            (
                json!({"settings": {"match_id": "x"}}),
                "`settings.match_id`",
            ),
            (json!({"settings": {"x": "y".repeat(20_000)}}), "`settings`"),
            (json!({"voice": {"match": true}}), "`voice`"),
            (json!({"lease_seconds": 0}), "`lease_seconds`"),
            (json!({"lease_seconds": 86_401}), "`lease_seconds`"),
            (json!({"deadline_ms": 60_001}), "`deadline_ms`"),
            (json!({"selectors": vec![json!({}); 17]}), "`selectors`"),
            (
                json!({"selectors": [{}, {"query": {"Citty": "x"}}]}),
                "selectors[1].query",
            ),
            (
                json!({"selectors": [{"query": {"PerPage": 5}}]}),
                "selectors[0].query",
            ),
        ] {
            let error = check(with(extra.clone())).unwrap_err();
            assert!(error.to_string().contains(field), "{extra}: {error}");
            assert!(
                matches!(error.kind(), Kind::InvalidArgument | Kind::InvalidQuery),
                "{extra}"
            );
        }
    }

    #[test]
    fn an_unknown_field_is_refused() {
        for body in [
            json!({"players": [], "player": 1}),
            json!({"players": [{"user_id": "a", "taem": "x"}]}),
            json!({"players": [], "voice": {"all": true}}),
            json!({"players": [], "selectors": [{"policy": "fast"}]}),
        ] {
            assert!(
                serde_json::from_value::<MatchRequest>(body.clone()).is_err(),
                "{body}"
            );
        }
    }
}
