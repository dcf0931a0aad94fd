//! Which service of an app a server is, and how clients reach it. Pure: takes what the Fleet said.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use super::FleetError;

/// Addresses of this machine that an error shows; a machine may have many.
const SHOWN_MAX: usize = 16;

/// How clients reach the server through its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The service's id.
    pub service_id: i64,
    /// Where `http.binding` is reached, TCP.
    pub http: SocketAddr,
    /// Where `http.webrtc_binding` is reached, UDP.
    pub webrtc: SocketAddr,
}

/// What a port carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// A service of the app, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) id: i64,
    /// Whether the Fleet has it as stopped or lost.
    pub(super) is_gone: bool,
    /// The node's; `None` while it has none.
    pub(super) address: Option<String>,
    pub(super) ports: Vec<Port>,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) transport: Transport,
    /// Inside the container.
    pub(super) target: u16,
    /// On the node; `None` while it has none.
    pub(super) published: Option<u16>,
}

/// What a port of the wanted service must be: transport, name, and the number inside the container.
pub(super) type WantedPort<'a> = (Transport, &'a str, u16);

/// What is known of the service before it is found.
#[derive(Clone, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) app_id: i64,
    /// Then nothing but the names of the ports is looked at.
    pub(super) service_id: Option<i64>,
    /// One of these is the node's.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) http: WantedPort<'a>,
    pub(super) webrtc: WantedPort<'a>,
}

/// What a look brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The service and its ports, and what is odd about them.
    Here { place: Place, notes: Vec<String> },
    /// What is missing.
    NotYet(String),
}

impl fmt::Display for Wanted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, more) = match self.addresses.get(..SHOWN_MAX) {
            Some(first) if first.len() < self.addresses.len() => (first, " and others"),
            _ => (self.addresses.as_slice(), ""),
        };
        let [http, webrtc] = [self.http, self.webrtc]
            .map(|(transport, name, number)| format!("{transport} port {number} named {name:?}"));
        write!(f, "address {shown:?}{more}, {http}, {webrtc}")
    }
}

/// The place of the one service that is wanted.
///
/// # Errors
/// [`FleetError`] when there are several, or when its node is nowhere.
pub(super) fn find(services: &[Service], wanted: &Wanted<'_>) -> Result<Found, FleetError> {
    let is_it = |service: &&Service| match wanted.service_id {
        Some(id) => service.id == id,
        None => is_wanted(service, wanted),
    };
    let mut found: Vec<&Service> = services.iter().filter(is_it).collect();
    if found.len() > 1 {
        // One that was here before may still be listed. A single one is taken also then: flags may come late.
        found.retain(|service| !service.is_gone);
    }
    match found.as_slice() {
        [service] => place(service, wanted),
        [] => {
            let (app, count) = (wanted.app_id, services.len());
            Ok(Found::NotYet(format!(
                "none of the {count} services of app {app} has {wanted}; set fleet.service_id (ODIN_SERVICE_ID), or \
                 fleet.address (PUBLIC_IP) to the node's address"
            )))
        }
        several => Err(FleetError::Ambiguous {
            ids: several.iter().map(|service| service.id).collect(),
            wanted: wanted.to_string(),
        }),
    }
}

fn is_wanted(service: &Service, wanted: &Wanted<'_>) -> bool {
    let has = |(transport, name, number): WantedPort<'_>| {
        let is_it =
            |port: &Port| port.transport == transport && port.name == name && port.target == number;
        service.ports.iter().any(is_it)
    };
    let address = service.address.as_deref().and_then(ip);
    address.is_some_and(|it| wanted.addresses.contains(&it))
        && has(wanted.http)
        && has(wanted.webrtc)
}

fn ip(address: &str) -> Option<IpAddr> {
    address.trim().parse().ok()
}

fn place(service: &Service, wanted: &Wanted<'_>) -> Result<Found, FleetError> {
    let id = service.id;
    let Some(address) = &service.address else {
        let problem = format!("service {id} has no node yet");
        return Ok(Found::NotYet(problem));
    };
    let Some(node) = ip(address) else {
        let address = address.clone();
        return Err(FleetError::NodeAddress {
            service: id,
            address,
        });
    };
    let mut notes = Vec::new();
    let mut published = |port| {
        let port = published(service, port, &mut notes)?;
        Ok(SocketAddr::new(node, port))
    };
    Ok(match (published(wanted.http), published(wanted.webrtc)) {
        (Ok(http), Ok(webrtc)) => Found::Here {
            place: Place {
                service_id: id,
                http,
                webrtc,
            },
            notes,
        },
        (Err(problem), _) | (_, Err(problem)) => Found::NotYet(problem),
    })
}

/// The node's port that leads to a port of ours, or what is missing.
fn published(
    service: &Service,
    (transport, name, number): WantedPort<'_>,
    notes: &mut Vec<String>,
) -> Result<u16, String> {
    let id = service.id;
    let is_named = |port: &&Port| port.transport == transport && port.name == name;
    let mut named: Vec<&Port> = service.ports.iter().filter(is_named).collect();
    // Of several with one name the one that leads here comes first.
    named.sort_by_key(|port| port.target != number);
    let Some(port) = named.first() else {
        return Err(format!(
            "service {id} has no {transport} port named {name:?}"
        ));
    };
    // A server that took any free port has not got it yet.
    if port.target != number && number != 0 {
        notes.push(format!(
            "port {name:?} of service {id} leads to {transport} port {}, and this server listens on {number}",
            port.target
        ));
    }
    port.published
        .ok_or_else(|| format!("{transport} port {name:?} of service {id} is not published yet"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, transport: Transport, target: u16, published: u16) -> Port {
        Port {
            name: name.to_owned(),
            transport,
            target,
            published: Some(published).filter(|it| *it != 0),
        }
    }

    /// Number `id` on a node, with ports published from `first` on.
    fn service(id: i64, address: &str, first: u16) -> Service {
        Service {
            id,
            is_gone: false,
            address: Some(address.to_owned()),
            ports: vec![
                port("game", Transport::Udp, 7777, first),
                port("http", Transport::Udp, 4433, first + 1),
                port("http", Transport::Tcp, 4433, first + 2),
                port("rtc", Transport::Udp, 8844, first + 3),
            ],
        }
    }

    fn wanted(service_id: Option<i64>) -> Wanted<'static> {
        Wanted {
            app_id: 9,
            service_id,
            addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            http: (Transport::Tcp, "http", 4433),
            webrtc: (Transport::Udp, "rtc", 8844),
        }
    }

    fn here(service_id: i64, http: &str, webrtc: &str) -> Found {
        let place = Place {
            service_id,
            http: http.parse().unwrap(),
            webrtc: webrtc.parse().unwrap(),
        };
        let notes = Vec::new();
        Found::Here { place, notes }
    }

    fn not_yet(services: &[Service], wanted: &Wanted<'_>) -> String {
        match find(services, wanted).unwrap() {
            Found::NotYet(problem) => problem,
            Found::Here { place, .. } => panic!("{place:?}"),
        }
    }

    #[test]
    fn the_service_is_the_one_at_an_own_address_with_the_own_ports() {
        let mut other_port = service(3, "192.0.2.1", 300);
        other_port.ports[2].target = 4434;
        let mut other_name = service(4, "192.0.2.1", 400);
        other_name.ports[3].name = "voice".to_owned();
        let mut nowhere = service(5, "", 500);
        nowhere.address = None;
        let mut services = vec![
            service(1, "192.0.2.9", 100),
            service(2, "192.0.2.1", 200),
            other_port,
            other_name,
            nowhere,
        ];
        let found = find(&services, &wanted(None)).unwrap();
        assert_eq!(found, here(2, "192.0.2.1:202", "192.0.2.1:203"));
        services[1].address = Some("2001:db8::1".to_owned());
        let found = find(&services, &wanted(None)).unwrap();
        assert_eq!(found, here(2, "[2001:db8::1]:202", "[2001:db8::1]:203"));
    }

    #[test]
    fn a_service_that_is_named_is_taken_wherever_it_is() {
        let mut named = service(1, "192.0.2.9", 100);
        named.ports[2].target = 1;
        let services = [named, service(2, "192.0.2.1", 200)];
        let Found::Here { place, notes } = find(&services, &wanted(Some(1))).unwrap() else {
            panic!("it is there");
        };
        let [http, webrtc] = ["192.0.2.9:102", "192.0.2.9:103"].map(|it| it.parse().unwrap());
        assert_eq!((place.http, place.webrtc), (http, webrtc));
        let odd = "port \"http\" of service 1 leads to TCP port 1, and this server listens on 4433";
        assert_eq!(notes, [odd]);
        let mut any_port = wanted(Some(1));
        any_port.http.2 = 0;
        let found = find(&services, &any_port).unwrap();
        assert_eq!(found, here(1, "192.0.2.9:102", "192.0.2.9:103"));
    }

    #[test]
    fn several_services_are_told_by_their_ids() {
        let mut services = [service(1, "192.0.2.1", 100), service(2, "2001:db8::1", 200)];
        let error = find(&services, &wanted(None)).unwrap_err().to_string();
        assert!(error.starts_with("services [1, 2] could all"), "{error}");
        assert!(error.contains("fleet.service_id"), "{error}");
        services[0].is_gone = true;
        let found = find(&services, &wanted(None)).unwrap();
        assert_eq!(found, here(2, "[2001:db8::1]:202", "[2001:db8::1]:203"));
        let found = find(&services[..1], &wanted(None)).unwrap();
        assert_eq!(found, here(1, "192.0.2.1:102", "192.0.2.1:103"));
    }

    #[test]
    fn what_was_looked_for_is_told() {
        let services = [service(1, "192.0.2.9", 100)];
        let problem = not_yet(&services, &wanted(None));
        for words in [
            "none of the 1 services of app 9 has address [192.0.2.1, 2001:db8::1], TCP port 4433 named \"http\"",
            "UDP port 8844 named \"rtc\"",
            "PUBLIC_IP",
        ] {
            assert!(problem.contains(words), "{problem}");
        }
        let mut many = wanted(None);
        many.addresses = (0..99).map(|at| IpAddr::from([10, 0, 0, at])).collect();
        let problem = not_yet(&services, &many);
        assert!(problem.contains("10.0.0.15] and others, TCP"), "{problem}");
    }

    #[test]
    fn a_service_that_is_not_ready_is_waited_for() {
        let mut pending = service(7, "192.0.2.1", 100);
        pending.ports[3].published = None;
        let problem = not_yet(&[pending.clone()], &wanted(None));
        assert_eq!(
            problem,
            "UDP port \"rtc\" of service 7 is not published yet"
        );
        pending.ports.truncate(2);
        let problem = not_yet(&[pending.clone()], &wanted(Some(7)));
        assert_eq!(problem, "service 7 has no TCP port named \"http\"");
        pending.address = None;
        let problem = not_yet(&[pending.clone()], &wanted(Some(7)));
        assert_eq!(problem, "service 7 has no node yet");
        pending.address = Some("node-7".to_owned());
        let error = find(&[pending], &wanted(Some(7))).unwrap_err();
        assert!(error.to_string().contains("\"node-7\""), "{error}");
    }
}
