//! Who may do what: bearer tokens, the apps they reach, and users who may ask for a token.

use std::collections::VecDeque;

use super::State;
use super::collection::Id;
use crate::limits;
use crate::refusal::Refusal;
use crate::secret::Secret;

/// A token that works.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) secret: Secret,
    pub(crate) caller: Caller,
}

/// What the holder of a token may do.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The apps it reaches; `None` is all of them.
    pub(crate) apps: Option<Vec<Id>>,
    pub(crate) read_only: bool,
}

/// A user who may ask for a token.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) email: String,
    pub(crate) password: Secret,
    pub(crate) apps: Option<Vec<Id>>,
}

/// All tokens and users.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) tokens: Vec<Token>,
    pub(crate) issued: VecDeque<Token>,
    pub(crate) users: Vec<User>,
    pub(crate) refresh_ends_old_token: bool,
}

impl Caller {
    /// Whether it reaches an app.
    pub(crate) fn reaches(&self, app: Id) -> bool {
        self.apps.as_ref().is_none_or(|apps| apps.contains(&app))
    }

    /// Refuses an app that it does not reach.
    pub(crate) fn require(&self, app: Id) -> Result<(), Refusal> {
        if self.reaches(app) {
            return Ok(());
        }
        Err(Refusal::Forbidden("This token has no access to the app."))
    }
}

impl Access {
    /// Who holds `bearer`. Every token is compared, so that the time tells nothing.
    pub(crate) fn caller(&self, bearer: &str) -> Option<&Caller> {
        self.tokens
            .iter()
            .chain(&self.issued)
            .fold(None, |found, token| {
                if token.secret.matches(bearer) {
                    Some(&token.caller)
                } else {
                    found
                }
            })
    }
}

impl State {
    /// A new token for a user.
    pub(crate) fn sign_in(&mut self, email: &str, password: &str) -> Result<String, Refusal> {
        let user = self.access.users.iter().find(|user| user.email == email);
        let user = user.ok_or(Refusal::NotFound("User"))?;
        if !user.password.matches(password) {
            return Err(Refusal::Forbidden("The password is not correct."));
        }
        let caller = Caller {
            apps: user.apps.clone(),
            read_only: false,
        };
        Ok(self.issue(caller))
    }

    /// A new token with the rights of the old one.
    pub(crate) fn refresh(&mut self, bearer: &str) -> Result<String, Refusal> {
        let caller = self
            .access
            .caller(bearer)
            .ok_or(Refusal::Unauthenticated)?
            .clone();
        if self.access.refresh_ends_old_token {
            self.access
                .tokens
                .retain(|token| !token.secret.matches(bearer));
            self.access
                .issued
                .retain(|token| !token.secret.matches(bearer));
        }
        Ok(self.issue(caller))
    }

    /// Lets a caller's tokens reach an app that it has just created.
    pub(crate) fn grant(&mut self, bearer: &str, app: Id) {
        let tokens = self.access.tokens.iter_mut().chain(&mut self.access.issued);
        for token in tokens.filter(|token| token.secret.matches(bearer)) {
            if let Some(apps) = &mut token.caller.apps {
                apps.push(app);
            }
        }
    }

    fn issue(&mut self, caller: Caller) -> String {
        let text = self.random_hex();
        if self.access.issued.len() == limits::ISSUED_TOKENS {
            self.access.issued.pop_front();
        }
        self.access.issued.push_back(Token {
            secret: Secret::new(text.clone()),
            caller,
        });
        text
    }
}
