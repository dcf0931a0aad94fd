//! `[fleet]`: what it takes from where, and what it asks for.

use super::{super::Fleet, CERTIFICATE, SUPERVISED, parse_with};

const TOKEN: (&str, &str) = ("ODIN_API_TOKEN", "hunter2");

fn read(text: &str, variables: &[(&str, &str)]) -> Result<Fleet, String> {
    let text = format!("{text}\n[http]\n{CERTIFICATE}");
    let variables = [&[TOKEN], variables].concat();
    match parse_with(&text, &variables) {
        Ok(config) => Ok(config.fleet.expect("a section")),
        Err(error) => Err(error.to_string()),
    }
}

const OPEN: &str = "[authorization]\nallow_unsigned = true\n";

#[test]
fn the_variables_of_a_container_are_enough_with_an_empty_section() {
    let variables = [
        ("ODIN_APP_ID", "7"),
        ("ODIN_SERVICE_ID", "1234"),
        ("PUBLIC_IP", "192.0.2.1"),
    ];
    let fleet = read(&format!("{OPEN}[fleet]"), &variables).unwrap();
    assert_eq!((fleet.app_id, fleet.service_id), (7, Some(1234)));
    assert_eq!(fleet.address, Some("192.0.2.1".parse().unwrap()));
    assert_eq!(fleet.api_url, fleet_client::DEFAULT_BASE_URL);
    assert!(!format!("{fleet:?}").contains(TOKEN.1));

    let off = parse_with(SUPERVISED, &variables).unwrap();
    assert!(off.fleet.is_none(), "variables turn nothing on");
}

#[test]
fn a_setting_of_the_fleet_has_one_source() {
    for (line, variable, value, key) in [
        ("app_id = 7", "ODIN_APP_ID", "7", "app_id"),
        ("service_id = 7", "ODIN_SERVICE_ID", "7", "service_id"),
        ("address = \"::1\"", "PUBLIC_IP", "::1", "address"),
        ("token_file = \"a\"", TOKEN.0, TOKEN.1, "token_file"),
    ] {
        let rest = match key {
            "app_id" => "",
            _ => "app_id = 1\n",
        };
        let text = format!("[fleet]\n{line}\n{rest}");
        let error = read(&text, &[(variable, value)]).unwrap_err();
        let wanted = format!("test.toml:2: fleet.{key}: {variable} is set as well: keep one");
        assert_eq!(error, wanted);
    }
}

#[test]
fn a_mistake_in_the_fleets_section_is_told_by_its_place_and_shows_no_secret() {
    let secret = "http://u:hunter2@fleet.test/";
    for (line, place) in [
        ("app_id = 0", ":2: fleet.app_id: it must be from 1"),
        ("service_id = 0", ":2: fleet.service_id: "),
        ("address = \"node:1\"", ":2: fleet.address: it must be"),
        ("address = \"0.0.0.0\"", ":2: fleet.address: it must be"),
        ("api_url = \"fleet.test\"", ":2: fleet.api_url: it must be"),
        (&format!("api_url = {secret:?}"), ":2: fleet.api_url: it "),
        ("http_port_name = \"\"", ":2: fleet.http_port_name: "),
        ("webrtc_port_name = \"\"", ":2: fleet.webrtc_port_name: "),
        ("report_interval = 99", ":2: fleet.report_interval: "),
        ("report_interval = 3600001", ":2: fleet.report_interval: "),
        ("start_timeout = 0", ":2: fleet.start_timeout: "),
        ("token = \"hunter2\"", ":2: fleet.token: unknown key"),
    ] {
        let rest = match line.starts_with("app_id") {
            true => "",
            false => "app_id = 1\n",
        };
        let error = read(&format!("[fleet]\n{line}\n{rest}"), &[]).unwrap_err();
        assert!(error.starts_with(&format!("test.toml{place}")), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    for (name, value) in [("ODIN_APP_ID", "x"), ("PUBLIC_IP", "node")] {
        let text = match name {
            "ODIN_APP_ID" => "[fleet]",
            _ => "[fleet]\napp_id = 1",
        };
        let error = read(text, &[(name, value)]).unwrap_err();
        assert!(error.starts_with(&format!("{name} must be ")), "{error}");
    }
    let error = read("[fleet]", &[]).unwrap_err();
    assert!(error.contains(":1: fleet.app_id: it is missing, and so"));
}

#[test]
fn a_token_of_the_fleet_is_needed_and_looked_at() {
    let text = format!("[fleet]\napp_id = 1\n[http]\n{CERTIFICATE}");
    let error = parse_with(&text, &[]).unwrap_err().to_string();
    assert!(
        error.contains(":1: fleet.token_file: it is missing, and so is the variable ODIN_API_")
    );
    let error = parse_with(&text, &[(TOKEN.0, "hunter2 hunter3")]).unwrap_err();
    let error = error.to_string();
    assert!(error.starts_with("ODIN_API_TOKEN must hold a token"));
    assert!(!error.contains("hunter"), "{error}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!("[fleet]\ntoken_file = {:?}\napp_id = 1\n", file.path());
    let error = parse_with(&text, &[]).unwrap_err().to_string();
    assert!(error.contains(":2: fleet.token_file: it must hold a token"));
}

#[test]
fn a_server_on_the_fleet_needs_listeners_that_it_can_be_found_by() {
    let check = |http: &str, place: &str| {
        let text = format!("{OPEN}[fleet]\napp_id = 1\n{http}");
        let error = parse_with(&text, &[TOKEN]).expect_err(http).to_string();
        assert!(error.contains(place), "{error}");
    };
    check("", ":3: fleet: [http] is missing");
    let any = format!("[http]\nbinding = \"0.0.0.0:0\"\n{CERTIFICATE}");
    check(&any, ":6: http.binding: it needs a fixed port");
    let any = format!("[http]\n{CERTIFICATE}webrtc_binding = \"0.0.0.0:0\"");
    check(&any, ":8: http.webrtc_binding: it needs a fixed port");
    let named = format!("{OPEN}[fleet]\napp_id = 1\nservice_id = 1\n{any}");
    let config = parse_with(&named, &[TOKEN]).unwrap();
    assert_eq!(config.public_address, None, "the Fleet knows it");
    assert_eq!(config.warnings().len(), 1, "{:?}", config.warnings());
    let clear = named.replace("service_id = 1", "api_url = \"http://fleet.test\"");
    let clear = clear.replace("0.0.0.0:0", "0.0.0.0:1");
    let warnings = parse_with(&clear, &[TOKEN]).unwrap().warnings().concat();
    assert!(warnings.contains("fleet.api_url sends the token"));
}
