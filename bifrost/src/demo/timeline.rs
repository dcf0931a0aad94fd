//! What the demo shows: coloured on a terminal, plain elsewhere (and with `NO_COLOR`).

use std::time::Instant;

use anstream::{eprintln, println};
use anstyle::{AnsiColor, Style};

use super::{servers::Setting, world::World};

const TITLE: Style = Style::new().bold();
const COMMAND: Style = AnsiColor::Cyan.on_default();
const QUIET: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// Prints the steps with the time since the start.
#[derive(Debug)]
pub(crate) struct Timeline {
    started: Instant,
}

impl Timeline {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// A step begins.
    pub(crate) fn step(&self, title: &str) {
        let seconds = self.started.elapsed().as_secs_f32();
        println!();
        println!("{QUIET}{seconds:6.2} s{QUIET:#}  {TITLE}{title}{TITLE:#}");
    }

    /// How to do the step by hand.
    pub(crate) fn command(&self, command: &str) {
        println!("          {COMMAND}{command}{COMMAND:#}");
    }

    /// The step held.
    pub(crate) fn held(&self, text: &str) {
        println!("          {GOOD}ok{GOOD:#}  {text}");
    }

    /// Something worth knowing about a step.
    pub(crate) fn note(&self, text: &str) {
        println!("          {QUIET}{text}{QUIET:#}");
    }

    /// Something that happened while the world stays up.
    pub(crate) fn happened(&self, text: &str) {
        let seconds = self.started.elapsed().as_secs_f32();
        println!("{QUIET}{seconds:6.2} s{QUIET:#}  {text}");
    }

    /// The world stays up.
    pub(crate) fn staying(&self, world: &World) {
        println!();
        println!(
            "{GOOD}Everything holds.{GOOD:#} {TITLE}The world stays up until Ctrl-C, and every command above works \
             now.{TITLE:#}"
        );
        println!(
            "          A new match needs another Idempotency-Key: the old one gives the old match."
        );
        for (name, address) in world.addresses() {
            println!("          {name:<16}{COMMAND}{address}{COMMAND:#}");
        }
        println!();
        let Setting {
            name, instances, ..
        } = world.setting();
        let more = instances + 2;
        println!(
            "          Scale {name} from {instances} to {more} servers, and watch them come up:"
        );
        self.command(&world.scale_command(more));
        println!();
    }

    /// The world ends.
    pub(crate) fn leaving(&self) {
        println!();
        self.happened("ending: every game server takes itself out of matchmaking");
    }

    /// The demo has failed.
    pub(crate) fn failed(&self, error: &anyhow::Error) {
        // Some errors already say what has caused them.
        let mut text = error.to_string();
        for cause in error.chain().skip(1).map(ToString::to_string) {
            if !text.ends_with(&cause) {
                text = format!("{text}: {cause}");
            }
        }
        eprintln!();
        eprintln!("          {BAD}failed{BAD:#}  {text}");
    }
}
