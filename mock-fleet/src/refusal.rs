//! Why a call is refused, in the simulator's words; `api/answer.rs` chooses the status codes.

/// Messages by field, in the order in which they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldErrors(pub(crate) Vec<(String, Vec<String>)>);

impl FieldErrors {
    /// Notes a message for a field.
    pub(crate) fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        let (field, message) = (field.into(), message.into());
        match self.0.iter_mut().find(|(name, _)| *name == field) {
            Some((_, messages)) => messages.push(message),
            None => self.0.push((field, vec![message])),
        }
    }
}

/// A refused call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No token, or one that is not known.
    Unauthenticated,
    /// The token may not do this.
    Forbidden(&'static str),
    /// There is no such thing.
    NotFound(&'static str),
    /// Not possible in the present state.
    Conflict(&'static str),
    /// Fields failed validation.
    Invalid(FieldErrors),
}

impl Refusal {
    /// One field failed with one message.
    pub(crate) fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        let mut errors = FieldErrors::default();
        errors.add(field, message);
        Self::Invalid(errors)
    }
}
