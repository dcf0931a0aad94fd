//! Where services run: the emptiest node of the city, and ports that nobody on that address has.

use std::collections::HashSet;

use super::State;
use super::collection::Id;
use super::service::{Phase, Service, ServicePort, span};
use crate::model::{OperatingSystem, Protocol};
use crate::world::{Condition, PublishedPorts};

/// How long a service that found no node waits before it looks again, in milliseconds.
const RETRY_MS: u32 = 2_000;

/// A machine.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) city: String,
    pub(crate) address: String,
    pub(crate) os: OperatingSystem,
    pub(crate) capacity: usize,
}

impl State {
    /// The ports of a config before a node has published them, one per protocol.
    pub(super) fn unpublished_ports(&self, config: Id) -> Vec<ServicePort> {
        let Some(config) = self.configs.get(config) else {
            return Vec::new();
        };
        config
            .spec
            .ports
            .iter()
            .flat_map(|port| {
                port.protocols.iter().map(|&protocol| ServicePort {
                    name: port.name.clone(),
                    protocol,
                    target: port.target_port,
                    published: None,
                })
            })
            .collect()
    }

    /// Gives a pending service a node and ports, or lets it wait.
    pub(super) fn place(&mut self, id: Id) {
        let (now, delays) = (self.now, self.delays);
        let Some(service) = self.services.get(id) else {
            return;
        };
        if service.condition == Condition::Overload {
            return;
        }
        let node = service.node.or_else(|| self.emptiest_node(service));
        let Some(node) = node else {
            if let Ok(service) = self.services.find_mut(id) {
                service.phase = Phase::Pending {
                    until: now + span(RETRY_MS),
                };
            }
            return;
        };
        let ports = self.published_ports(service, node);
        if let Ok(service) = self.services.find_mut(id) {
            service.ports = ports;
            service.placed(node, now, &delays);
        }
    }

    fn emptiest_node(&self, service: &Service) -> Option<usize> {
        let setting = self.settings.get(service.setting_id)?;
        let city = &self.locations.get(setting.location)?.city;
        let load = |index| {
            self.services
                .iter()
                .filter(|other| other.node == Some(index))
                .count()
        };
        self.nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.city == *city)
            .map(|(index, node)| (index, load(index), node.capacity))
            .filter(|(_, load, capacity)| load < capacity)
            .min_by_key(|(index, load, _)| (*load, *index))
            .map(|(index, ..)| index)
    }

    /// The service's ports with a number each. Protocols of one definition share the number, a
    /// service keeps the numbers it has, and none is left over when the pool is exhausted.
    fn published_ports(&self, service: &Service, node: usize) -> Vec<ServicePort> {
        let address = self.nodes.get(node).map(|node| node.address.as_str());
        let mut taken: HashSet<(Protocol, u16)> = self
            .services
            .iter()
            .filter(|other| other.id != service.id)
            .filter(|other| {
                let theirs = other.node.and_then(|node| self.nodes.get(node));
                theirs.map(|node| node.address.as_str()) == address
            })
            .flat_map(|other| &other.ports)
            .filter_map(|port| Some((port.protocol, port.published?)))
            .collect();
        let mut ports = service.ports.clone();
        taken.extend(
            ports
                .iter()
                .filter_map(|port| Some((port.protocol, port.published?))),
        );
        let mut index = 0;
        while index < ports.len() {
            let name = ports[index].name.clone();
            let target = ports[index].target;
            let same = |port: &&mut ServicePort| port.name == name && port.target == target;
            if ports[index].published.is_none() {
                let protocols: Vec<_> = ports
                    .iter()
                    .filter(|port| port.name == name && port.target == target)
                    .map(|port| port.protocol)
                    .collect();
                let free = pool(&self.published_ports).find(|number| {
                    protocols
                        .iter()
                        .all(|&protocol| !taken.contains(&(protocol, *number)))
                });
                for port in ports.iter_mut().filter(same) {
                    port.published = free;
                    taken.extend(free.map(|number| (port.protocol, number)));
                }
            }
            index += 1;
        }
        ports
    }
}

fn pool(ports: &PublishedPorts) -> Box<dyn Iterator<Item = u16> + '_> {
    match ports {
        PublishedPorts::Range { first, last } => Box::new(*first..=*last),
        PublishedPorts::List(list) => Box::new(list.iter().copied()),
    }
}
