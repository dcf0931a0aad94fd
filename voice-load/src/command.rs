//! `bifrost load`: from the options to the report.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context as _, Result, bail, ensure};
use gateway_api::KeyPair;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;

use crate::{
    chart::chart,
    limit::Search,
    options::Options,
    plan::Plan,
    progress::Bar,
    report::Report,
    run::{self, Watched},
    server::{OwnFloor, OwnServer, Wish},
    table::table,
    target::Doorman,
    trust::Trust,
};

/// Begins the names of rooms.
const ROOMS: &str = "load";

/// Most bytes of a file with an access key.
const KEY_BYTES_MAX: u64 = 1_024;

/// Runs a load test, and gives what to print.
///
/// # Errors
/// When the options do not go together, the server cannot be reached or started, or somebody does not get in.
pub async fn command(options: Options) -> Result<String> {
    let plan = options.plan();
    if let Some(objection) = plan.objection() {
        bail!("this cannot be run: {objection}");
    }
    raise_file_limit();
    let target = Target::reach(&options)?;
    if options.find_limit {
        let search = find_limit(&target, &options, &plan).await?;
        if let Some(path) = &options.chart {
            fs::write(path, chart(&search)).with_context(|| path.display().to_string())?;
        }
        return give(&options, &search, search.table());
    }
    let report = target.run(&plan).await?;
    give(&options, &report, table(&report))
}

/// A peer has up to three sockets, and shells often allow 1,024 files.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

async fn find_limit(target: &Target, options: &Options, first: &Plan) -> Result<Search> {
    let mut search = Search::new(options.bounds());
    while let Some(plan) = search.next(first) {
        let report = target.run(&plan).await?;
        search.steps.push(report);
    }
    Ok(search)
}

/// Writes the JSON to where it belongs, and gives what to print.
fn give(options: &Options, result: &impl Serialize, text: String) -> Result<String> {
    let Some(path) = &options.json else {
        return Ok(text);
    };
    let json = serde_json::to_string_pretty(result)?;
    if path == Path::new("-") {
        return Ok(format!("{json}\n"));
    }
    fs::write(path, format!("{json}\n")).with_context(|| path.display().to_string())?;
    Ok(text)
}

/// What is put under load.
struct Target {
    doorman: Arc<Doorman>,
    trust: Trust,
    watched: Watched,
    /// Ends with us.
    _own: Own,
}

enum Own {
    Nothing,
    Server(#[expect(dead_code, reason = "held until the end")] Box<OwnServer>),
    Floor(#[expect(dead_code, reason = "held until the end")] OwnFloor),
}

impl Target {
    fn reach(options: &Options) -> Result<Self> {
        if options.floor {
            return Self::floor(options);
        }
        if options.server.is_none() && options.gateway.is_none() {
            return Self::own(options);
        }
        let trust = options.trust.as_deref();
        let trust = trust.context("a server that runs needs --trust, the certificates to trust")?;
        let key = key(options)?;
        let rooms = ROOMS.to_owned();
        let doorman = match (&options.server, &options.gateway) {
            (Some(address), _) => Doorman::Server {
                address: address.clone(),
                quic: options.quic.clone().unwrap_or_else(|| address.clone()),
                key,
                rooms,
            },
            (None, Some(url)) => Doorman::Gateway {
                url: url.clone(),
                http: reqwest::Client::builder()
                    .tls_certs_only(reqwest::Certificate::from_pem_bundle(&fs::read(trust)?)?)
                    .build()?,
                key,
                rooms,
            },
            (None, None) => bail!("no server"),
        };
        Ok(Self {
            doorman: Arc::new(doorman),
            trust: Trust::read(trust)?,
            watched: Watched {
                pid: options.pid,
                metrics: options.metrics.clone(),
                looks: options.looks()?,
            },
            _own: Own::Nothing,
        })
    }

    fn own(options: &Options) -> Result<Self> {
        let server = OwnServer::start(&wish(options))?;
        let doorman = Doorman::Server {
            address: server.http.to_string(),
            quic: server.quic.to_string(),
            key: server.key.clone(),
            rooms: ROOMS.to_owned(),
        };
        Ok(Self {
            doorman: Arc::new(doorman),
            trust: Trust::read(&server.certificate)?,
            watched: Watched {
                pid: Some(server.pid()),
                metrics: Some(server.metrics.clone()),
                looks: options.looks()?,
            },
            _own: Own::Server(Box::new(server)),
        })
    }

    fn floor(options: &Options) -> Result<Self> {
        let floor = OwnFloor::start(&wish(options))?;
        Ok(Self {
            doorman: Arc::new(Doorman::Floor(floor.address)),
            trust: Trust::nobody()?,
            watched: Watched {
                pid: Some(floor.pid()),
                metrics: None,
                looks: options.looks()?,
            },
            _own: Own::Floor(floor),
        })
    }

    async fn run(&self, plan: &Plan) -> Result<Report> {
        let bar = Bar::new(plan);
        let doorman = Arc::clone(&self.doorman);
        let trust = self.trust.clone();
        let report = run::run(plan, doorman, trust, &self.watched, |stage, progress| {
            bar.show(stage, progress);
        });
        let report = report.await;
        bar.end();
        report
    }
}

fn wish(options: &Options) -> Wish {
    Wish {
        program: options.server_program.clone(),
        core: options.server_core.clone(),
        shards: options.shards,
        coalescing_us: options.coalescing_us,
        has_quic: options.data_channels < 100,
    }
}

fn key(options: &Options) -> Result<KeyPair> {
    if let Some(key) = &options.access_key {
        return Ok(key.key_pair());
    }
    let path = options.key_file.as_deref();
    let path = path.context("a server that runs needs --key-file, the access key it takes")?;
    let name = || path.display().to_string();
    let length = fs::metadata(path).with_context(name)?.len();
    ensure!(
        length <= KEY_BYTES_MAX,
        "{} is too long for an access key",
        name()
    );
    let text = fs::read_to_string(path).with_context(name)?;
    let key: gateway_api::AccessKey = text.trim().parse().with_context(name)?;
    Ok(key.key_pair())
}
