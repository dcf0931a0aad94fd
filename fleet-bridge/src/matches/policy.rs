//! Which of the free servers is tried first. Pure: servers in, ids out, chance given.

use std::{
    cmp::{Ordering, Reverse},
    collections::BTreeMap,
};

use super::request::{Player, Policy};
use crate::model::Server;

/// How full a city is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fill {
    free: usize,
    taken: usize,
}

/// Puts free servers in the order in which they should be tried. `taken` are the servers of the app that are not free;
/// `seed` mixes the servers of one city, so that callers who look at the same moment do not all want the same one.
pub(crate) fn order<'a>(
    free: &[&'a Server],
    taken: impl Iterator<Item = &'a Server>,
    policy: Policy,
    players: &[Player],
    seed: u64,
) -> Vec<i64> {
    let mut cities: BTreeMap<&str, (Fill, Vec<&Server>)> = BTreeMap::new();
    for server in free {
        let (fill, servers) = cities.entry(&server.city).or_default();
        fill.free += 1;
        servers.push(server);
    }
    for server in taken {
        if let Some((fill, _)) = cities.get_mut(server.city.as_str()) {
            fill.taken += 1;
        }
    }
    let mut cities: Vec<_> = cities.into_values().collect();
    match policy {
        Policy::Packed => cities.sort_by_key(|(fill, _)| (Reverse(fill.taken), fill.free)),
        Policy::Spread => cities.sort_by_key(|(fill, _)| (fill.taken, Reverse(fill.free))),
        Policy::Latency => {
            let mut measured: Vec<_> = cities
                .into_iter()
                .map(|city| {
                    (
                        city.1.first().and_then(|server| distance(server, players)),
                        city,
                    )
                })
                .collect();
            measured.sort_by(|(a, _), (b, _)| nearer(*a, *b));
            cities = measured.into_iter().map(|(_, city)| city).collect();
        }
    }
    let mut chance = fastrand::Rng::with_seed(seed);
    let shuffled = cities.into_iter().flat_map(|(_, mut servers)| {
        chance.shuffle(&mut servers);
        servers
    });
    shuffled.map(|server| server.id).collect()
}

/// How far away the farthest player is, and how far they are on average, in milliseconds. `None` where nobody has
/// measured this place.
fn distance(server: &Server, players: &[Player]) -> Option<(f64, f64)> {
    let measured: Vec<f64> = players
        .iter()
        .filter_map(|player| latency(server, player))
        .collect();
    let farthest = measured.iter().copied().max_by(f64::total_cmp)?;
    Some((
        farthest,
        measured.iter().sum::<f64>() / measured.len() as f64,
    ))
}

/// What a player measured for the place of a server: of its city before its country before its continent.
fn latency(server: &Server, player: &Player) -> Option<f64> {
    let places = [
        &server.city,
        &server.city_display,
        &server.country,
        &server.continent,
    ];
    places
        .into_iter()
        .filter(|place| !place.is_empty())
        .find_map(|place| {
            let mut latencies = player.latencies.iter();
            let latency = latencies.find(|it| it.region.eq_ignore_ascii_case(place))?;
            Some(latency.ms)
        })
}

/// Places that nobody has measured come last.
fn nearer(a: Option<(f64, f64)>, b: Option<(f64, f64)>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matches::request::Latency;

    fn server(id: i64, city: &str, country: &str) -> Server {
        Server {
            city: city.to_owned(),
            country: country.to_owned(),
            ..Server::sample(id)
        }
    }

    /// Three free in limburg, one in paris, two in ohio; one taken in paris, two in ohio.
    fn ordered(policy: Policy, players: &[Player], seed: u64) -> Vec<String> {
        let free = [
            server(1, "limburg", "germany"),
            server(2, "limburg", "germany"),
            server(3, "limburg", "germany"),
            server(4, "paris", "france"),
            server(5, "ohio", "usa"),
            server(6, "ohio", "usa"),
        ];
        let taken = [
            server(7, "paris", "france"),
            server(8, "ohio", "usa"),
            server(9, "ohio", "usa"),
        ];
        let all: Vec<&Server> = free.iter().collect();
        let order = order(&all, taken.iter(), policy, players, seed);
        assert_eq!(order.len(), free.len());
        let mut cities: Vec<_> = order
            .into_iter()
            .map(|id| free.iter().find(|it| it.id == id).unwrap().city.clone())
            .collect();
        cities.dedup();
        cities
    }

    fn player(latencies: &[(&str, f64)]) -> Player {
        let latency = |(region, ms): &(&str, f64)| Latency {
            region: (*region).to_owned(),
            ms: *ms,
        };
        Player {
            user_id: "u".to_owned(),
            team: None,
            latencies: latencies.iter().map(latency).collect(),
        }
    }

    #[test]
    fn packed_fills_the_fullest_city_and_spread_the_emptiest() {
        assert_eq!(
            ordered(Policy::Packed, &[], 1),
            ["ohio", "paris", "limburg"]
        );
        assert_eq!(
            ordered(Policy::Spread, &[], 1),
            ["limburg", "paris", "ohio"]
        );
    }

    #[test]
    fn latency_looks_at_the_player_who_is_farthest_away() {
        let players = [
            player(&[("Germany", 10.0), ("france", 30.0), ("usa", 90.0)]),
            player(&[("germany", 80.0), ("PARIS", 50.0), ("france", 500.0)]),
        ];
        assert_eq!(
            ordered(Policy::Latency, &players, 1),
            ["paris", "limburg", "ohio"]
        );
        let nobody_measured_ohio = [player(&[("limburg", 400.0), ("paris", 300.0)])];
        let order = ordered(Policy::Latency, &nobody_measured_ohio, 1);
        assert_eq!(order, ["paris", "limburg", "ohio"]);
    }

    #[test]
    fn the_servers_of_a_city_are_mixed_by_the_seed() {
        let free: Vec<_> = (1..=20)
            .map(|id| server(id, "limburg", "germany"))
            .collect();
        let free: Vec<_> = free.iter().collect();
        let of = |seed| order(&free, [].into_iter(), Policy::Packed, &[], seed);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }
}
