//! What must hold when a run is over.

use std::collections::{BTreeMap, BTreeSet};

use super::outside::Model;
use crate::{
    matches::{
        claim::{self, Claim},
        delivery::Delivery,
        flow::SCALE_PAUSE,
        record::{Match, ServerClaim, Stage},
    },
    model::Keys,
    store::Key,
};

/// The same key never gives two matches, or one match in two places.
pub(super) fn check_answers<C>(model: &Model<C>, answers: &[(String, Match)]) {
    let mut places: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (key, record) in answers {
        let place = record.place.as_ref().map(|place| place.server);
        places
            .entry(key)
            .or_default()
            .insert(format!("{} on {place:?}", record.id));
    }
    for (key, places) in places {
        if places.len() > 1 {
            model
                .state()
                .violations
                .push(format!("{key} gave {places:?}"));
        }
    }
}

/// No record has a setting scaled up twice within the pause.
pub(super) fn check_scaled<C>(model: &Model<C>) {
    let mut state = model.state();
    let scaled = std::mem::take(&mut state.scaled);
    let pause = u64::try_from(SCALE_PAUSE.as_millis()).unwrap();
    for (at, (id, time)) in scaled.iter().enumerate() {
        let earlier = scaled.iter().take(at).filter(|(other, _)| other == id);
        if earlier.into_iter().any(|(_, before)| time - before < pause) {
            let text = format!("scaled up for {id} more than once: {scaled:?}");
            state.violations.push(text);
        }
    }
}

/// In the end nothing is left: every server is idle and free, and every record is over.
pub(super) fn check_quiet<C>(model: &Model<C>) {
    let mut state = model.state();
    let mut left = Vec::new();
    for (id, game) in &state.games {
        let server = state.server(*id);
        if game.running.is_some() || claim::state(&server, &Keys::default()) != claim::IDLE {
            left.push(format!(
                "server {id} is not idle in the end: {:?} {:?}",
                game.running, server.metadata
            ));
        }
        if Claim::read(&server.metadata).is_some() {
            left.push(format!(
                "server {id} is claimed in the end: {:?}",
                server.metadata
            ));
        }
    }
    for (key, (_, text, _)) in &state.documents {
        match key {
            Key::Match(id) => {
                let record: Match = serde_json::from_str(text).unwrap();
                if !matches!(record.stage, Stage::Ended(_)) {
                    left.push(format!("{id} is not over in the end: {:?}", record.stage));
                }
            }
            Key::Server(id) => {
                let claim: ServerClaim = serde_json::from_str(text).unwrap();
                if claim.match_id.is_some() {
                    left.push(format!("server {id} is not free in the end"));
                }
            }
            Key::Webhook(id) => {
                let delivery: Delivery = serde_json::from_str(text).unwrap();
                if delivery.attempts > 0 {
                    left.push(format!("word of {id} was sent by nobody"));
                }
            }
            Key::Idempotency(_) | Key::View(_) => {}
        }
    }
    state.violations.extend(left);
}
