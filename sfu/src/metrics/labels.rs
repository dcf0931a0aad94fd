//! The labels of the series, and what gives them their values. No client makes one up.

use std::{borrow::Cow, collections::BTreeMap};

use prometheus_client::encoding::EncodeLabelSet;

/// Labels that series have of their own: a series must not have one twice.
pub(super) const OWN_LABELS: [&str; 11] = [
    "customer",
    "kind",
    "le",
    "method",
    "outcome",
    "queue",
    "reason",
    "shard",
    "task",
    "transport",
    "version",
];

/// How clients talk to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// WebSocket and WebRTC.
    Web,
    /// QUIC.
    Quic,
}

impl Transport {
    pub(super) const ALL: [Self; 2] = [Self::Web, Self::Quic];

    pub(super) fn labels(self) -> TransportLabels {
        let transport = match self {
            Self::Web => "web",
            Self::Quic => "quic",
        };
        TransportLabels { transport }
    }
}

/// What became of a client's call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallOutcome {
    /// It has a result.
    Success,
    /// It was refused on purpose.
    Rejected,
    /// Something went wrong here.
    Failure,
}

impl CallOutcome {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Rejected => "rejected",
            Self::Failure => "failure",
        }
    }
}

/// A connection of web clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    /// TCP, with or without TLS.
    Http,
    /// One that has become a WebSocket.
    WebSocket,
    /// A stream of WebTransport.
    Quic,
}

impl Connection {
    pub(super) fn labels(self) -> ConnectionLabels {
        let kind = match self {
            Self::Http => "http",
            Self::WebSocket => "websocket",
            Self::Quic => "quic_stream",
        };
        ConnectionLabels { kind }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TransportLabels {
    pub(super) transport: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CallLabels {
    pub(super) method: &'static str,
    pub(super) outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ConnectionLabels {
    pub(super) kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReasonLabels {
    pub(super) reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabels {
    pub(super) outcome: &'static str,
}

impl OutcomeLabels {
    pub(super) fn of(is_success: bool) -> Self {
        let outcome = match is_success {
            true => "success",
            false => "failure",
        };
        Self { outcome }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TaskLabels {
    pub(super) task: &'static str,
}

pub(super) type Labels = Vec<(Cow<'static, str>, Cow<'static, str>)>;

/// Those that can be added to every series. One that cannot must not make all others unreadable.
pub(super) fn global_labels(labels: &BTreeMap<String, String>) -> Labels {
    let is_usable = |name: &str| {
        let is_word = |it: char| it.is_ascii_alphanumeric() || it == '_';
        let is_name = name.chars().all(is_word) && name.starts_with(|it: char| !it.is_numeric());
        is_name && !name.starts_with("__") && !OWN_LABELS.contains(&name)
    };
    let mut usable = Labels::new();
    for (name, value) in labels {
        if is_usable(name) {
            usable.push((name.clone().into(), value.clone().into()));
        } else {
            tracing::warn!(?name, "no label can have this name: metrics go without it");
        }
    }
    usable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_global_label_that_would_break_the_text_is_left_out() {
        let labels = [
            ("shard", "a"),
            ("le", "b"),
            ("a-b", "c"),
            ("", "d"),
            ("1a", "e"),
            ("__a", "f"),
            ("_a1", "g"),
        ];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let usable = global_labels(&labels.into());
        assert_eq!(usable, [("_a1".into(), "g".into())]);
    }
}
