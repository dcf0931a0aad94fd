//! What the signalling asks a shard for.

use std::time::Instant;

use sfu_core::Command;

use super::Shard;
use crate::{
    metrics::CallOutcome,
    shard::inbox::{Place, Request},
};

impl Shard {
    pub(super) fn handle_request(&mut self, now: Instant, request: Request) {
        match request {
            Request::Connect(offer) => self.sessions.connect(now, *offer),
            Request::Bind { connection, client } => self.sessions.bind(connection, client),
            Request::LookAtStream { connection, stream } => {
                self.sessions.look_at_stream(now, connection, stream);
            }
            Request::ReplaceQuicTls(tls) => self.sessions.replace_quic_tls(&tls),
            Request::Disconnect(client) => self.sessions.disconnect(now, client),
            Request::Attach {
                client,
                medias,
                place,
            } => self.sessions.attach(client, medias, place),
            Request::Detach { client, place } => self.sessions.detach(client, place),
            Request::Join(join) => self.rooms.join(now, *join),
            Request::Lose { place, let_go } => self.rooms.lose(now, place, let_go),
            Request::Resume(resume) => self.rooms.resume(now, *resume),
            Request::Command {
                place,
                call,
                command,
                since,
            } => self.handle_command(now, place, call, command, since),
            Request::Leave { room, peer } => self.rooms.leave(now, room, peer, None),
            Request::Remove {
                room,
                peers,
                reason,
            } => {
                for peer in peers {
                    self.rooms.leave(now, room, peer, Some(reason));
                }
            }
            Request::UpdateRoom { room, user_data } => self.rooms.update_room(now, room, user_data),
            Request::SendMessage {
                room,
                peers,
                message,
            } => self.rooms.send_message(now, room, &peers, message),
            Request::Direct(direct) => self.rooms.direct(now, *direct),
            Request::End(room) => self.rooms.end(room),
            Request::Stop => self.is_stopping = true,
        }
    }

    fn handle_command(
        &mut self,
        now: Instant,
        place: Place,
        call: u64,
        command: Command,
        since: Instant,
    ) {
        let method = command.method();
        let peer = place.peer;
        let result = self.rooms.command(now, place, call, command);
        let outcome = match &result {
            Ok(()) => CallOutcome::Success,
            Err(error) => {
                if self.settings.log_rejected {
                    tracing::info!(method, %peer, "refused: {error}");
                }
                CallOutcome::Rejected
            }
        };
        self.metrics.call(method, outcome);
        let took = since.elapsed();
        if self.settings.hanging_call.is_some_and(|limit| took > limit) {
            tracing::warn!(method, %peer, took_ms = took.as_millis(), "a call took long");
        }
    }
}
