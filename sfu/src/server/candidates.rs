//! The addresses that clients are offered for their voice.

use std::net::{IpAddr, SocketAddr};

use crate::config::{Config, Http};

use super::ServerError;

/// What is set, or else the node's address on the Fleet, or else what the public address is; with the port that the Fleet
/// publishes, or else that of the socket; and only what the socket's family can serve.
///
/// # Errors
/// [`ServerError::Candidates`] when nothing is left.
pub(super) async fn candidates(
    config: &Config,
    http: &Http,
    socket: SocketAddr,
) -> Result<Vec<SocketAddr>, ServerError> {
    let mut addresses = http.webrtc_candidates.clone();
    let place = config.fleet.as_ref().and_then(|fleet| fleet.place);
    if let (Some(place), None, true) = (place, &http.public_address_override, addresses.is_empty())
    {
        addresses.push(place.webrtc.ip());
    }
    let port = place.map_or_else(|| socket.port(), |place| place.webrtc.port());
    let named = http
        .public_address_override
        .as_ref()
        .or(config.public_address.as_ref());
    if addresses.is_empty() {
        let named = named.ok_or_else(|| {
            ServerError::Candidates(
                "neither http.webrtc_candidates nor public_address is set".to_owned(),
            )
        })?;
        let resolved = tokio::net::lookup_host(named.as_str()).await;
        let resolved = resolved.map_err(|error| {
            ServerError::Candidates(format!(
                "{named} cannot be resolved ({error}); set http.webrtc_candidates"
            ))
        })?;
        addresses.extend(resolved.map(|address| address.ip()));
    }
    addresses.sort_unstable();
    addresses.dedup();
    let (served, not_served): (Vec<IpAddr>, Vec<IpAddr>) = addresses
        .into_iter()
        .partition(|address| is_served(*address, socket));
    for address in not_served {
        tracing::warn!(%address, binding = %socket, "clients are not offered an address that http.webrtc_binding cannot serve");
    }
    if served.is_empty() {
        let text = format!(
            "none of the addresses for clients can be served by http.webrtc_binding {socket}"
        );
        return Err(ServerError::Candidates(text));
    }
    Ok(served
        .into_iter()
        .map(|address| SocketAddr::new(address, port))
        .collect())
}

/// A socket for all IPv6 addresses serves IPv4 as well.
fn is_served(address: IpAddr, socket: SocketAddr) -> bool {
    match socket.ip() {
        IpAddr::V4(_) => address.is_ipv4(),
        IpAddr::V6(binding) => address.is_ipv6() || binding.is_unspecified(),
    }
}

#[cfg(test)]
mod tests {
    use fleet_client::Token;

    use super::*;
    use crate::{
        config::{Fleet, Tls},
        fleet::Place,
    };

    async fn offered(
        public: Option<&str>,
        set: &[&str],
        socket: &str,
    ) -> Result<Vec<String>, String> {
        let tls = Tls {
            certificate_file: "c".into(),
            privatekey_file: "k".into(),
        };
        let mut http = Http::new("127.0.0.1:0".parse().unwrap(), tls);
        http.webrtc_candidates = set.iter().map(|it| it.parse().unwrap()).collect();
        let mut config = Config::new();
        config.public_address = public.map(str::to_owned);
        let offered = candidates(&config, &http, socket.parse().unwrap()).await;
        let text = |it: Vec<SocketAddr>| it.iter().map(SocketAddr::to_string).collect();
        offered.map(text).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn on_the_fleet_the_published_port_is_offered_and_the_nodes_address() {
        let tls = Tls {
            certificate_file: "c".into(),
            privatekey_file: "k".into(),
        };
        let mut http = Http::new("127.0.0.1:0".parse().unwrap(), tls);
        let mut fleet = Fleet::new(1, Token::new("t").unwrap());
        fleet.place = Some(Place {
            service_id: 1,
            http: "192.0.2.1:20001".parse().unwrap(),
            webrtc: "192.0.2.1:20002".parse().unwrap(),
        });
        let mut config = Config::new();
        config.fleet = Some(fleet);
        config.public_address = Some("no-such-host.invalid:1".to_owned());
        let socket = "0.0.0.0:8844".parse().unwrap();
        let address = |text: &str| vec![text.parse::<SocketAddr>().unwrap()];
        let offered = candidates(&config, &http, socket).await.unwrap();
        assert_eq!(offered, address("192.0.2.1:20002"));
        http.public_address_override = Some("192.0.2.9:1".to_owned());
        let offered = candidates(&config, &http, socket).await.unwrap();
        assert_eq!(offered, address("192.0.2.9:20002"));
        http.webrtc_candidates = vec!["192.0.2.7".parse().unwrap()];
        let offered = candidates(&config, &http, socket).await.unwrap();
        assert_eq!(offered, address("192.0.2.7:20002"));
    }

    #[tokio::test]
    async fn what_is_set_is_offered_or_else_the_public_address() {
        let v4 = "0.0.0.0:8844";
        assert_eq!(
            offered(Some("127.0.0.1:4433"), &[], v4).await.unwrap(),
            ["127.0.0.1:8844"]
        );
        let set = ["192.0.2.7", "::1", "192.0.2.7"];
        assert_eq!(offered(None, &set, v4).await.unwrap(), ["192.0.2.7:8844"]);
        assert_eq!(
            offered(None, &set, "[::]:1").await.unwrap(),
            ["192.0.2.7:1", "[::1]:1"]
        );
        assert!(
            offered(None, &["::1"], v4)
                .await
                .unwrap_err()
                .contains("0.0.0.0:8844")
        );
        assert!(
            offered(None, &[], v4)
                .await
                .unwrap_err()
                .contains("webrtc_candidates")
        );
        let unknown = offered(Some("no-such-host.invalid:1"), &[], v4)
            .await
            .unwrap_err();
        assert!(
            unknown.contains("no-such-host.invalid:1 cannot be resolved"),
            "{unknown}"
        );
    }
}
