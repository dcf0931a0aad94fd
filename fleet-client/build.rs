//! Generates the client from `openapi/odin-fleet.json` at build time, so that no generated code lives in git.

use std::{env, error::Error, fs, path::Path};

use openapiv3::{OpenAPI, ReferenceOr, StatusCode};
use progenitor::{GenerationSettings, Generator, HooksMode, InterfaceStyle, TypeImpl};

const DOCUMENT: &str = "../openapi/odin-fleet.json";

/// Enumerations of answers that grow from version to version. The generated enums refuse a value that they
/// do not know, and with it the whole answer; the hand-written ones keep it.
const OPEN_ENUMS: &[&str] = &[
    "AppBillingState",
    "AppLocationSettingStatus",
    "AppStatus",
    "Architecture",
    "BinaryStatus",
    "BinaryType",
    "DockerRegistryType",
    "EnvironmentVariableType",
    "OperatingSystem",
    "Protocol",
    "ResourcePackageType",
    "RestartPolicyCondition",
    "ServerConfigStatus",
    "ServiceAutoscalingStatus",
    "SteamRuntime",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={DOCUMENT}");
    let mut document: OpenAPI = serde_json::from_str(&fs::read_to_string(DOCUMENT)?)?;
    drop_single_refusals(&mut document);

    let mut settings = GenerationSettings::new();
    settings
        .with_interface(InterfaceStyle::Builder)
        .with_hooks(HooksMode::Expected)
        .with_inner_type("crate::transport::Transport".parse()?)
        .with_derive("PartialEq");
    for name in OPEN_ENUMS {
        let path = format!("crate::open_enum::{name}");
        let traits = [TypeImpl::Display, TypeImpl::FromStr];
        settings.with_replacement(name, path, traits.into_iter());
    }
    for name in ["Metadata", "EnvironmentVariables"] {
        let path = format!("crate::maps::{name}");
        settings.with_replacement(name, path, [TypeImpl::Default].into_iter());
    }

    let tokens = Generator::new(&settings).generate_tokens(&document)?;
    let path = Path::new(&env::var("OUT_DIR")?).join("client.rs");
    fs::write(path, tokens.to_string())?;
    Ok(())
}

/// The range `4XX` of an operation covers its single statuses, and the generator would emit arms that are never
/// reached for them.
fn drop_single_refusals(document: &mut OpenAPI) {
    let items = document.paths.paths.iter_mut();
    for (_, item) in items {
        let ReferenceOr::Item(item) = item else {
            continue;
        };
        let methods = [
            &mut item.get,
            &mut item.post,
            &mut item.put,
            &mut item.patch,
            &mut item.delete,
        ];
        for operation in methods.into_iter().flatten() {
            let responses = &mut operation.responses.responses;
            responses.retain(|status, _| !matches!(status, StatusCode::Code(400..=499)));
        }
    }
}
