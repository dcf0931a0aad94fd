//! Signing a token. The claims, their order and what is left out are those of `@4players/odin-tokens`.

use std::time::Duration;

use clap::{Args, builder::PossibleValuesParser};
use gateway_api::{Claims, Internal, Names, sign};
use serde_json::json;

use super::seconds;
use crate::{failure::Failure, input::KeyFile};

/// Latest time that can be given, in seconds since 1970: the last whole number that is exact in JavaScript.
const NOT_BEFORE_MAX: i64 = (1 << 53) - 1;

/// Who takes tokens.
pub(super) const AUDIENCES: [&str; 2] = ["gateway", "sfu"];

#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    key: KeyFile,
    /// Room that the token opens; given several times, the token opens all of them
    #[arg(long, required = true, value_name = "NAME")]
    room: Vec<String>,
    /// User that the token is for; may be empty
    #[arg(long, value_name = "ID")]
    user: String,
    /// Method that the token allows; may be given several times
    #[arg(long, default_value = "connect", value_name = "METHOD")]
    subject: Vec<String>,
    /// Who may take the token; everybody if not given; may be given several times
    #[arg(long, value_name = "AUDIENCE", value_parser = PossibleValuesParser::new(AUDIENCES))]
    audience: Vec<String>,
    /// Seconds that the token lasts
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    lifetime: u32,
    /// When it begins to last, in seconds since 1970; now if not given
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(i64).range(0..=NOT_BEFORE_MAX)
    )]
    not_before: Option<i64>,
    /// Customer, for a voice server without a gateway
    #[arg(long, value_name = "ID")]
    customer: Option<String>,
    /// Namespace of the rooms; a gateway sets its own
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Address of the voice server that the client shall go to, without a gateway
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
    /// Tag of the peer; may be given several times
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Upstream address
    #[arg(long, value_name = "ADDRESS")]
    upstream: Option<String>,
    /// Voice server on which the gateway shall put a new room
    #[arg(long, value_name = "HOST:PORT")]
    server: Option<String>,
    /// Print JSON: the token, its key id and its claims
    #[arg(long)]
    json: bool,
}

/// Gives the token.
pub(super) fn run(options: Options, now: Duration) -> Result<String, Failure> {
    let key = options.key.read()?.key_pair();
    let is_json = options.json;
    let claims = claims(options, seconds(now));
    let token = sign(&claims, &key);
    Ok(match is_json {
        true => format!(
            "{}\n",
            json!({"token": token, "kid": key.id(), "claims": claims})
        ),
        false => format!("{token}\n"),
    })
}

fn claims(options: Options, now: i64) -> Claims {
    let begin = options.not_before.unwrap_or(now);
    Claims {
        rid: names(options.room),
        uid: Some(options.user),
        adr: options.address,
        tgs: Some(options.tag).filter(|tags| !tags.is_empty()),
        ups: options.upstream,
        cid: options.customer,
        nsp: options.namespace,
        sub: names(options.subject),
        aud: names(options.audience),
        exp: Some(begin.saturating_add(options.lifetime.into())),
        nbf: Some(begin),
        internal: options.server.map(|server| Internal {
            server: Some(server),
            ..Internal::default()
        }),
    }
}

/// One name stands alone, several are a list.
fn names(mut list: Vec<String>) -> Option<Names> {
    match list.len() {
        0 => None,
        1 => list.pop().map(Names::One),
        _ => Some(Names::Many(list)),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn check(arguments: &str, claims_json: &str) {
        let arguments = format!("sign --room foo --user bar {arguments}");
        let line = Line::try_parse_from(arguments.split_whitespace()).unwrap();
        let claims = claims(line.options, 1_700_000_000);
        assert_eq!(serde_json::to_string(&claims).unwrap(), claims_json);
    }

    #[test]
    fn claims_are_written_as_the_token_library_writes_them() {
        check(
            "",
            r#"{"rid":"foo","uid":"bar","sub":"connect","exp":1700000300,"nbf":1700000000}"#,
        );
        check(
            "--room b --subject connect --subject roomclose --audience gateway --lifetime 0",
            r#"{"rid":["foo","b"],"uid":"bar","sub":["connect","roomclose"],"aud":"gateway","exp":1700000000,"nbf":1700000000}"#,
        );
        check(
            "--address s:1 --tag a --tag b --upstream u --customer c --namespace n --audience gateway --audience sfu \
             --not-before 5 --server s:2",
            r#"{"rid":"foo","uid":"bar","adr":"s:1","tgs":["a","b"],"ups":"u","cid":"c","nsp":"n","sub":"connect","aud":["gateway","sfu"],"exp":305,"nbf":5,"internal":{"server":"s:2"}}"#,
        );
    }
}
