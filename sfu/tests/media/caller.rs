//! A web client with its voice: in a room, with a media.

use serde_json::json;

use crate::{
    client::{Member, Stream, map, place},
    packet::packet,
    voice::{Voice, Way},
    world::World,
};

/// See the module.
pub(crate) struct Caller {
    pub(crate) member: Member,
    pub(crate) voice: Voice,
    pub(crate) media: u64,
    sequence: u32,
}

impl World {
    /// A client whose voice comes through and whose media is started.
    pub(crate) async fn caller(&self, room: &str, user: &str) -> Caller {
        self.caller_by(Way::Direct, room, user).await
    }

    /// As [`Self::caller`], on some way.
    pub(crate) async fn caller_by(&self, way: Way, room: &str, user: &str) -> Caller {
        let token = self.token_for(room, user);
        Box::pin(self.come(&token, way, room, user)).await
    }

    /// As [`Self::caller`], with a token of the test's own.
    pub(crate) async fn caller_with(&self, token: &str, room: &str, user: &str) -> Caller {
        Box::pin(self.come(token, Way::Direct, room, user)).await
    }

    async fn come(&self, token: &str, way: Way, room: &str, user: &str) -> Caller {
        let mut main = self.authenticated(token).await;
        let voice = Voice::set_up(&mut main, way).await;
        let stream = main
            .join(room, user.as_bytes(), [0.0; 3])
            .await
            .expect("let in");
        let mut member = self.enter(main, &stream).await;
        let media = start_last_media(&mut member).await;
        voice.opened().await;
        Caller {
            member,
            voice,
            media,
            sequence: u32::MAX - 5,
        }
    }

    /// A client that may enter several rooms and is in none; its session is on the shard of the first.
    pub(crate) async fn wanderer(&self, rooms: &[&str], user: &str) -> (Stream, Voice) {
        let token = self.token(&json!({"rid": rooms, "uid": user, "aud": "sfu"}));
        let mut main = self.authenticated(&token).await;
        let voice = Box::pin(Voice::set_up(&mut main, Way::Direct)).await;
        (main, voice)
    }
}

impl Caller {
    /// The next packet, not sent; sequences wrap early.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        self.sequence = self.sequence.wrapping_add(1);
        packet(self.media, self.sequence)
    }

    /// Sends the next packet, and gives its bytes.
    pub(crate) async fn talk(&mut self) -> Vec<u8> {
        let bytes = self.next();
        self.voice.send(&bytes).await;
        bytes
    }

    /// Sends a packet, and waits until these hear it and nothing else.
    pub(crate) async fn is_heard_by(&mut self, hearers: &[&Self]) {
        let bytes = self.talk().await;
        for hearer in hearers {
            let heard = hearer.voice.hears_up_to(&bytes).await;
            assert_eq!(heard.len(), 1, "{heard:?}");
        }
    }

    /// Sends a packet, and waits until the server has it: what a client asks for takes another way than its voice.
    pub(crate) async fn talk_to(&mut self, world: &World) {
        let before = world.count("sfu_packets_in_total", "").await;
        self.talk().await;
        world.counts("sfu_packets_in_total", "", before + 1.0).await;
    }

    pub(crate) async fn call(&mut self, method: &str, media: u64) {
        let params = map([("media_id", media.into())]);
        let called = self.member.room.call(method, params).await;
        called.expect("nothing against it");
    }

    pub(crate) async fn move_to(&mut self, position: [f64; 3]) {
        let params = map([("position", place(&position))]);
        let called = self.member.room.call("SetPeerPosition", params).await;
        called.expect("nothing against it");
    }
}

/// Starts the media that web clients use.
pub(crate) async fn start_last_media(member: &mut Member) -> u64 {
    let media = *member.media_ids.last().expect("medias");
    let params = map([("media_id", media.into()), ("properties", map([]))]);
    let started = member.room.call("StartMedia", params).await;
    started.expect("an own media");
    media
}
