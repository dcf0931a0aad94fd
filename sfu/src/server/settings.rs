//! The settings a server runs with: its own, on the Fleet how it is reached, and below a gateway what that recommends.

use std::{collections::HashMap, path::Path};

use crate::{
    config::Config,
    fleet::{Fleet, Place},
    server::ServerError,
    supervisor::Supervisor,
};

/// The settings of `text`; with a `[fleet]`, with the address that the service has there; with a `[supervisor]`, together
/// with what the gateway recommends and its key. Waits for the gateway until it answers, and for the Fleet as long as
/// `fleet.start_timeout` says.
///
/// # Errors
/// [`ServerError`] when the settings are wrong, the Fleet does not know this server, or the gateway refuses it.
pub async fn settle(
    name: &Path,
    text: &str,
    variables: HashMap<String, String>,
) -> Result<Config, ServerError> {
    let own = Config::parse(name, text, variables.clone())?;
    let place = match (own.fleet, own.http) {
        (Some(fleet), Some(http)) => {
            let (http, webrtc) = (http.binding.port(), http.webrtc_binding.port());
            let place = Fleet::new(fleet)?.find(http, webrtc).await?;
            tracing::info!(?place, "found on the Fleet");
            Some(place)
        }
        _ => None,
    };
    settle_at(name, text, variables, place).await
}

/// As [`settle`], of a server whose place on the Fleet is known.
///
/// # Errors
/// As [`settle`].
pub(super) async fn settle_at(
    name: &Path,
    text: &str,
    variables: HashMap<String, String>,
    place: Option<Place>,
) -> Result<Config, ServerError> {
    let own = placed(Config::parse(name, text, variables.clone())?, place);
    let Some(supervisor) = own.supervisor else {
        return Ok(own);
    };
    let supervisor = Supervisor::new(supervisor, own.public_address)?;
    let merged = supervisor.settings(text).await?;
    let name = format!("{} with the gateway's recommendation", name.display());
    let merged = Config::parse(Path::new(&name), &merged, variables)?;
    Ok(placed(merged, place))
}

/// The settings of a server that is reached like this, unless they say how it is reached.
fn placed(mut config: Config, place: Option<Place>) -> Config {
    if let (Some(fleet), Some(place)) = (&mut config.fleet, place) {
        fleet.place = Some(place);
        let address = &mut config.public_address;
        address.get_or_insert_with(|| place.http.to_string());
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[fleet]\napp_id = 1\n[authorization]\nallow_unsigned = true\n\
                        [http]\ncertificate_file = \"a\"\nprivatekey_file = \"b\"\n";

    async fn settled(text: &str, place: Option<Place>) -> Config {
        let token = ("ODIN_API_TOKEN".to_owned(), "t".to_owned());
        let settled = settle_at(Path::new("test"), text, [token].into(), place).await;
        settled.unwrap()
    }

    #[tokio::test]
    async fn the_place_on_the_fleet_is_the_public_address_unless_that_is_set() {
        let place = Place {
            service_id: 7,
            http: "[2001:db8::1]:20001".parse().unwrap(),
            webrtc: "[2001:db8::1]:20002".parse().unwrap(),
        };
        let config = settled(TEXT, Some(place)).await;
        assert_eq!(
            config.public_address.as_deref(),
            Some("[2001:db8::1]:20001")
        );
        assert_eq!(config.fleet.unwrap().place, Some(place));
        let set = format!("public_address = \"voice.test:1\"\n{TEXT}");
        let config = settled(&set, Some(place)).await;
        assert_eq!(config.public_address.as_deref(), Some("voice.test:1"));
        assert_eq!(config.fleet.unwrap().place, Some(place));
        let elsewhere = set.replace("[fleet]\napp_id = 1\n", "");
        assert!(settled(&elsewhere, Some(place)).await.fleet.is_none());
    }
}
