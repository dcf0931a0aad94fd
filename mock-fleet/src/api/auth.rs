//! Tokens: asked for with e-mail and password, or refreshed.

use serde_json::json;

use super::answer::{Answer, Outcome};
use super::call::Call;
use crate::fields::Fields;
use crate::limits;
use crate::state::State;

pub(super) fn sign_in(state: &mut State, call: &Call) -> Outcome {
    let body = call.json()?;
    let mut fields = Fields::of(&body);
    let email = fields.text("email", limits::NAME_CHARS);
    let password = fields.text("password", limits::TEXT_CHARS);
    fields.text("sid", limits::SESSION_CHARS);
    let is_address = email
        .split_once('@')
        .is_some_and(|(user, host)| !user.is_empty() && !host.is_empty() && !host.contains('@'));
    if !email.is_empty() && !is_address {
        fields.problem("email", "The email field must be a valid email address.");
    }
    fields.finish()?;
    let token = state.sign_in(&email, &password)?;
    Ok(Answer::json(&json!({ "token": token })))
}

pub(super) fn refresh(state: &mut State, call: &Call) -> Outcome {
    let token = state.refresh(&call.bearer)?;
    Ok(Answer::json(&json!({ "token": token })))
}
