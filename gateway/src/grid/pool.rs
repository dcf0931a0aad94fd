//! One pool: its servers, its rooms, and the rules that bind the ones to the others.

use std::collections::{BTreeMap, HashMap, HashSet, hash_map::Entry};

use gateway_api::{KeyId, RoomHash, RoomId, Task};
use serde::{Deserialize, Serialize};

use super::{
    Bind, Connect, Delivery, Pick, Refused, ServerReport, TaskKey, TaskSource, Timestamp, Timing,
    Usage,
    bans::Bans,
    mutes::{Handover, Mutes},
    placement::{self, Weights},
    server::{LastReport, Server},
};

/// Most servers of a pool.
pub const SERVERS_MAX: usize = 10_000;

/// Most rooms of a pool that are bound to servers.
pub const ROOMS_MAX: usize = 1_000_000;

/// Where the rooms of one hash live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The room that was connected to or reported last.
    pub id: RoomId,
    /// Whose limits it counts against.
    pub customer: String,
    /// The server's address.
    pub server: String,
    /// When it was connected to or reported last.
    pub updated: Timestamp,
    /// When somebody was sent there last.
    connected: Option<Timestamp>,
    /// The command that sent somebody there last.
    connected_by: Option<u64>,
}

/// A pool of servers. Rooms of different pools have nothing to do with one another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    servers: BTreeMap<String, Server>,
    /// Addresses of the servers by the ids of their keys.
    keys: HashMap<KeyId, String>,
    rooms: HashMap<RoomHash, Binding>,
    weights: Weights,
    usage: BTreeMap<String, Usage>,
    bans: Bans,
    /// Absent in what gateways write that know of no mutes.
    #[serde(default)]
    mutes: Mutes,
}

impl Pool {
    /// Its servers by address.
    pub fn servers(&self) -> impl Iterator<Item = (&str, &Server)> {
        self.servers
            .iter()
            .map(|(address, it)| (address.as_str(), it))
    }

    /// One of its servers.
    pub fn server(&self, address: &str) -> Option<&Server> {
        self.servers.get(address)
    }

    /// The address of its server with this key.
    pub(super) fn server_of_key(&self, key: &KeyId) -> Option<&str> {
        self.keys.get(key).map(String::as_str)
    }

    /// Its rooms.
    pub fn rooms(&self) -> impl Iterator<Item = (RoomHash, &Binding)> {
        self.rooms.iter().map(|(hash, binding)| (*hash, binding))
    }

    /// Where the rooms of a hash live.
    pub fn binding(&self, room: RoomHash) -> Option<&Binding> {
        self.rooms.get(&room)
    }

    /// What every customer used at the last tick.
    pub fn usages(&self) -> impl Iterator<Item = (&str, Usage)> {
        self.usage.iter().map(|(id, usage)| (id.as_str(), *usage))
    }

    /// How many bans it remembers.
    pub fn bans(&self) -> usize {
        self.bans.len()
    }

    /// How many mutes it remembers.
    pub fn mutes(&self) -> usize {
        self.mutes.len()
    }

    pub(super) fn usage(&self, customer: &str) -> Option<Usage> {
        self.usage.get(customer).copied()
    }

    pub(super) fn connect(
        &mut self,
        connect: &Connect,
        tasks: &mut TaskSource<'_>,
    ) -> Result<String, Refused> {
        let now = tasks.now;
        for room in &connect.rooms {
            if let Some(barred) = self.bans.barred(room, &connect.user, now) {
                return Err(Refused::Barred(barred));
            }
        }
        let room = connect.rooms.last().ok_or(Refused::NoServer)?;
        let hash = room.hash();
        if let Some(binding) = self.rooms.get_mut(&hash)
            && self
                .servers
                .get(&binding.server)
                .is_some_and(|it| !it.disabled)
        {
            binding.updated = now;
            binding.connected = Some(now);
            binding.connected_by = Some(tasks.command);
            let address = binding.server.clone();
            self.tell(hash, &address, tasks);
            return Ok(address);
        }
        let address = self.pick(hash, connect).ok_or(Refused::NoServer)?;
        self.bind(room, &connect.customer, &address, tasks)?;
        if let Some(binding) = self.rooms.get_mut(&hash) {
            binding.connected = Some(now);
            binding.connected_by = Some(tasks.command);
        }
        Ok(address)
    }

    fn pick(&self, hash: RoomHash, connect: &Connect) -> Option<String> {
        let is_usable = |address: &str| self.servers.get(address).is_some_and(|it| !it.disabled);
        if let Some(forced) = &connect.forced {
            return is_usable(forced).then(|| forced.clone());
        }
        if let Some(preferred) = connect.preferred.as_ref().filter(|it| is_usable(it)) {
            return Some(preferred.clone());
        }
        let usable = || self.usable().map(|(address, _)| address);
        let picked = match connect.pick {
            Pick::Hash => placement::by_hash(hash, usable()),
            Pick::Roll(random) => match self.weights.roll(random).filter(|it| is_usable(it)) {
                Some(address) => Some(address),
                // Nobody was there at the last tick; whoever came since is better than nobody.
                None => return self.count_weights().roll(random).map(str::to_owned),
            },
        };
        picked.map(str::to_owned)
    }

    fn usable(&self) -> impl Iterator<Item = (&str, &Server)> {
        self.servers().filter(|(_, server)| !server.disabled)
    }

    fn count_weights(&self) -> Weights {
        Weights::of(self.usable().map(|(address, it)| (address, it.report.load)))
    }

    /// Binds a room to a server, which is told who is shut out of it and who is not heard in it.
    fn bind(
        &mut self,
        room: &RoomId,
        customer: &str,
        address: &str,
        tasks: &mut TaskSource<'_>,
    ) -> Result<(), Refused> {
        let hash = room.hash();
        let is_full = self.rooms.len() >= ROOMS_MAX;
        let binding = Binding {
            id: room.clone(),
            customer: customer.to_owned(),
            server: address.to_owned(),
            updated: tasks.now,
            connected: None,
            connected_by: None,
        };
        match self.rooms.entry(hash) {
            Entry::Occupied(mut entry) => {
                entry.insert(binding);
            }
            Entry::Vacant(_) if is_full => return Err(Refused::Full("rooms")),
            Entry::Vacant(entry) => {
                entry.insert(binding);
            }
        }
        self.tell(hash, address, tasks);
        Ok(())
    }

    /// Tells the server of the rooms of this hash what it does not know yet of who is shut out and who is not heard.
    fn tell(&mut self, hash: RoomHash, address: &str, tasks: &mut TaskSource<'_>) {
        let Some(server) = self.servers.get_mut(address) else {
            return;
        };
        for task in self.bans.follow(hash, address, tasks.now) {
            server.queue(task, address, tasks);
        }
        let mut handovers = self.mutes.follow(hash, address, tasks.now);
        let mut left = Vec::new();
        while server.has_room_for_task().is_ok()
            && let Some(Handover { task, from }) = handovers.next()
        {
            server.queue(task, address, tasks);
            left.extend(from);
        }
        for (address, task) in left {
            if let Some(server) = self.servers.get_mut(&address) {
                server.queue(task, &address, tasks);
            }
        }
    }

    pub(super) fn report(
        &mut self,
        report: &ServerReport,
        timing: &Timing,
        tasks: &mut TaskSource<'_>,
    ) -> Result<Delivery, Refused> {
        let now = tasks.now;
        let address = report.server.address.as_str();
        if !self.servers.contains_key(address) && self.servers.len() >= SERVERS_MAX {
            return Err(Refused::Full("servers"));
        }
        // One that was removed may have been started anew meanwhile: whoever is new here is told everything.
        let is_anew = match self.servers.get(address) {
            Some(server) => server.is_restarted_by(report),
            None => true,
        };
        if is_anew {
            self.mutes.forgotten_by(address);
        }
        let server = self.servers.entry(address.to_owned()).or_insert_with(|| {
            let key = report.key_id.clone();
            self.keys.insert(key.clone(), address.to_owned());
            Server::new(key, now)
        });
        let last_seen = server.last_seen;
        let last = server.update(report, now);
        self.settle(report, &last, last_seen, timing, tasks);

        let Some(server) = self.servers.get_mut(address) else {
            return Ok(Delivery::default());
        };
        if let Some(released) = &report.released {
            server.release(released);
            return Ok(Delivery::default());
        }
        let done = report.acknowledged.map(|last| server.acknowledge(last));
        let mut delivery = server.deliver();
        delivery.released.extend(done.unwrap_or_default());
        // Whoever asks for tasks needs not be woken for them.
        tasks.woken.retain(|woken| woken != address);
        Ok(delivery)
    }

    /// Brings the bindings in line with the rooms of a report.
    fn settle(
        &mut self,
        report: &ServerReport,
        last: &LastReport,
        last_seen: Timestamp,
        timing: &Timing,
        tasks: &mut TaskSource<'_>,
    ) {
        let now = tasks.now;
        let address = report.server.address.as_str();
        let mut alive = HashSet::with_capacity(report.rooms.len());
        for room in &report.rooms {
            let hash = room.id.hash();
            alive.insert(hash);
            let owner = self.rooms.get_mut(&hash);
            if let Some(binding) = owner {
                if binding.server == address {
                    binding.updated = now;
                    binding.id.clone_from(&room.id);
                    binding.customer.clone_from(&room.customer);
                    self.tell(hash, address, tasks);
                    continue;
                }
                let is_taken = self
                    .servers
                    .get(&binding.server)
                    .is_some_and(|it| !it.disabled);
                if is_taken {
                    self.close_stray(&room.id, address, timing, tasks);
                    continue;
                }
            }
            // A full pool is said to those who connect; the server runs the room either way.
            let _ = self.bind(&room.id, &room.customer, address, tasks);
        }
        for room in &last.rooms {
            let hash = room.id.hash();
            let is_over = |binding: &Binding| {
                // Somebody who was sent there since the last report may be on the way.
                binding.server == address && binding.connected.is_none_or(|it| it < last_seen)
            };
            if !alive.contains(&hash) && self.rooms.get(&hash).is_some_and(is_over) {
                self.rooms.remove(&hash);
            }
        }
    }

    /// A room runs on a server that is not its own: it is closed there, so that its peers meet where it lives.
    fn close_stray(
        &mut self,
        room: &RoomId,
        address: &str,
        timing: &Timing,
        tasks: &mut TaskSource<'_>,
    ) {
        let task = Task::RoomClose {
            id: room.clone(),
            ban_time: timing.update_interval.into(),
        };
        if let Some(server) = self.servers.get_mut(address)
            && !server.awaits(&task)
        {
            server.queue(task, address, tasks);
        }
    }

    pub(super) fn take(&mut self, address: &str) -> Delivery {
        let server = self.servers.get_mut(address);
        server.map(Server::deliver).unwrap_or_default()
    }

    pub(super) fn moderate(
        &mut self,
        task: &Task,
        tasks: &mut TaskSource<'_>,
    ) -> Result<(), Refused> {
        let Some(binding) = self.rooms.get(&task.room().hash()) else {
            return self.unmute_nowhere(task, tasks);
        };
        let address = binding.server.clone();
        let server = self.servers.get_mut(&address).ok_or(Refused::NoRoom)?;
        server.has_room_for_task()?;
        self.bans.remember(task, &address, tasks.now)?;
        self.mutes.remember(task, &address, tasks.now)?;
        server.queue(task.clone(), &address, tasks);
        Ok(())
    }

    /// A mute outlives its room, and can be taken back without it. The server that was told of it last may get the room
    /// again.
    fn unmute_nowhere(&mut self, task: &Task, tasks: &mut TaskSource<'_>) -> Result<(), Refused> {
        let told = self.mutes.told(task).ok_or(Refused::NoRoom)?;
        if let Some(address) = told
            && let Some(server) = self.servers.get_mut(address)
        {
            server.has_room_for_task()?;
            server.queue(task.clone(), address, tasks);
        }
        self.mutes.take_back(task);
        Ok(())
    }

    /// Keeps what another gateway decided alone, unless the room has found a server since: then whoever was sent
    /// there would be left behind.
    pub(super) fn adopt(&mut self, bind: &Bind, tasks: &mut TaskSource<'_>) {
        let Bind {
            room,
            customer,
            address,
            instead_of,
            ..
        } = bind;
        let was_told = |binding: &Binding| {
            let by = binding.connected_by.as_ref();
            !by.is_some_and(|command| instead_of.contains(command))
        };
        if self.rooms.get(&room.hash()).is_some_and(was_told) || !self.servers.contains_key(address)
        {
            return;
        }
        // A pool that is full says so at the next Connect.
        let _ = self.bind(room, customer, address, tasks);
        if let Some(binding) = self.rooms.get_mut(&room.hash()) {
            binding.connected = Some(tasks.now);
        }
    }

    pub(super) fn release(&mut self, address: &str, keys: &[TaskKey]) {
        if let Some(server) = self.servers.get_mut(address) {
            server.release(keys);
        }
    }

    pub(super) fn tick(&mut self, now: Timestamp, timing: &Timing, silence_counts: bool) {
        self.servers
            .retain(|_, it| now.since(it.last_seen) < timing.remove_timeout);
        self.keys
            .retain(|_, address| self.servers.contains_key(address));
        for server in self.servers.values_mut() {
            if silence_counts && now.since(server.last_seen) >= timing.disable_timeout {
                server.disabled = true;
            }
        }
        let servers = &self.servers;
        self.rooms.retain(|_, binding| {
            servers.contains_key(&binding.server)
                && now.since(binding.updated) <= timing.token_lifetime
        });
        self.bans.expire(now);
        self.mutes.expire(now);
        self.weights = self.count_weights();
        self.usage = self.count_usage();
    }

    fn count_usage(&self) -> BTreeMap<String, Usage> {
        let mut usage: BTreeMap<String, Usage> = BTreeMap::new();
        for (_, server) in self.usable() {
            for room in &server.report.rooms {
                let customer = usage.entry(room.customer.clone()).or_default();
                customer.peers = customer.peers.saturating_add(room.peers);
                customer.rooms += 1;
            }
        }
        usage
    }
}
