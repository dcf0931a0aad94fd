//! Why a command did not do what it was asked for, and the exit code of each reason.

use std::{io, process::ExitCode};

use gateway_api::TokenError;
use serde_json::json;
use service::EXIT_BAD_CONFIG;

/// `EX_IOERR` of sysexits.h.
const EXIT_IO: u8 = 74;

const EXIT_REFUSED: u8 = 1;

/// Why a command ended without success. No text holds a secret.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Wrong use, or input that is not what it should be.
    Input(String),
    /// A token that is not to be taken.
    Refused {
        /// Why not.
        reason: String,
        /// A program wants to know.
        in_json: bool,
    },
    /// The machine.
    System(String),
}

impl Failure {
    /// A token that is not to be taken.
    pub(crate) fn refused(reason: String) -> Self {
        Self::Refused {
            reason,
            in_json: false,
        }
    }

    /// A refusal in the form that was asked for.
    pub(crate) fn in_json(self, in_json: bool) -> Self {
        match self {
            Self::Refused { reason, .. } => Self::Refused { reason, in_json },
            Self::Input(_) | Self::System(_) => self,
        }
    }

    /// What goes to standard output all the same.
    pub(crate) fn json(&self) -> Option<String> {
        match self {
            Self::Refused {
                reason,
                in_json: true,
            } => Some(format!(
                "{}\n",
                json!({"accepted": false, "reason": reason})
            )),
            Self::Refused { .. } | Self::Input(_) | Self::System(_) => None,
        }
    }

    /// Standard output cannot be written.
    pub(crate) fn output(error: &io::Error) -> Self {
        Self::System(format!("standard output cannot be written: {error}"))
    }

    /// One sentence for people.
    pub(crate) fn sentence(&self) -> String {
        match self {
            Self::Input(text) | Self::System(text) => format!("error: {text}"),
            Self::Refused { reason, .. } => format!("refused: {reason}"),
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Input(_) => EXIT_BAD_CONFIG,
            Self::Refused { .. } => EXIT_REFUSED,
            Self::System(_) => EXIT_IO,
        }
        .into()
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        Self::refused(error.to_string())
    }
}
