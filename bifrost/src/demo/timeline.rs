//! What the demo shows: coloured on a terminal, plain elsewhere (and with `NO_COLOR`).

use std::time::Instant;

use anstream::{eprintln, println};
use anstyle::{AnsiColor, Style};

use super::world::Fleet;

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

    /// A step begins: what it is, and how to do it by hand.
    pub(crate) fn step(&self, title: &str, command: &str) {
        let seconds = self.started.elapsed().as_secs_f32();
        println!();
        println!("{QUIET}{seconds:6.2} s{QUIET:#}  {TITLE}{title}{TITLE:#}");
        for line in command.lines() {
            println!("          {COMMAND}{line}{COMMAND:#}");
        }
    }

    /// The step held.
    pub(crate) fn held(&self, text: &str) {
        println!("          {GOOD}ok{GOOD:#}  {text}");
    }

    /// Something worth knowing.
    pub(crate) fn note(&self, text: &str) {
        println!("          {QUIET}{text}{QUIET:#}");
    }

    /// The world stays up.
    pub(crate) fn staying(&self, fleet: &Fleet) {
        println!();
        println!("{TITLE}The fleet stays up until Ctrl-C.{TITLE:#} Every command above works now.");
        for (name, address) in fleet.addresses() {
            println!("          {name:<16}{COMMAND}{address}{COMMAND:#}");
        }
        println!(
            "          {QUIET}Fleet API token: {}{QUIET:#}",
            fleet.token()
        );
    }

    pub(crate) fn leaving(&self) {
        println!();
        self.note("stopping …");
    }

    /// The demo ends here.
    pub(crate) fn failed(&self, error: &anyhow::Error) {
        eprintln!();
        eprintln!("          {BAD}failed{BAD:#}  {error:#}");
    }
}
