//! What commands read: secrets from files or standard input, never from the command line.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use clap::Args;
use gateway_api::{AccessKey, PublicKey, is_published};
use zeroize::Zeroizing;

use crate::failure::Failure;

/// Most bytes of an input: a key set with thousands of keys fits, and an endless one ends.
const INPUT_BYTES_MAX: usize = 1024 * 1024;

/// Where the access key comes from.
#[derive(Args, Debug)]
pub(crate) struct KeyFile {
    /// File with the access key; `-`, or no flag at all, is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
}

impl KeyFile {
    /// The access key, and a word on standard error when it is one that everybody knows.
    pub(crate) fn read(&self) -> Result<AccessKey, Failure> {
        let key = read_access_key(self.key_file.as_deref())?;
        warn_if_published(&key.key_pair().public());
        Ok(key)
    }
}

/// A text that was read, and where it came from.
pub(crate) struct Input {
    /// The file, or standard input.
    pub(crate) name: String,
    text: Zeroizing<String>,
    /// Every user of the machine can read it.
    is_open: bool,
}

impl Input {
    /// Reads a file, or standard input for `-` and `None`. `what` is for people who are waited for.
    pub(crate) fn read(path: Option<&Path>, what: &str) -> Result<Self, Failure> {
        match path.filter(|path| !is_stdin(path)) {
            Some(path) => Self::read_file(path),
            None => Self::read_stdin(what),
        }
    }

    fn read_file(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let unreadable =
            |error: io::Error| Failure::Input(format!("{name} cannot be read: {error}"));
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        let is_open = metadata.is_file() && metadata.permissions().mode() & 0o004 != 0;
        let text = read_text(file, &name)?;
        Ok(Self {
            name,
            text,
            is_open,
        })
    }

    fn read_stdin(what: &str) -> Result<Self, Failure> {
        let stdin = io::stdin().lock();
        if stdin.is_terminal() {
            say(&format!(
                "reading {what} from standard input, which Ctrl-D ends"
            ));
        }
        let name = "standard input".to_owned();
        let text = read_text(stdin, &name)?;
        Ok(Self {
            name,
            text,
            is_open: false,
        })
    }

    /// The text without the space around it.
    pub(crate) fn text(&self) -> &str {
        self.text.trim()
    }

    /// Says so when every user of the machine can read a secret.
    pub(crate) fn warn_if_open(&self, what: &str) {
        if self.is_open {
            let name = &self.name;
            say(&format!(
                "warning: {name} holds {what}, and every user of this machine can read it: chmod 600"
            ));
        }
    }
}

/// The access key of a file, or of standard input.
pub(crate) fn read_access_key(path: Option<&Path>) -> Result<AccessKey, Failure> {
    let input = Input::read(path, "the access key")?;
    input.warn_if_open("an access key");
    let key = input.text().parse();
    key.map_err(|error| Failure::Input(format!("{}: {error}", input.name)))
}

/// Says so when a key protects nothing.
pub(crate) fn warn_if_published(key: &PublicKey) {
    if is_published(key) {
        say(
            "warning: this key is printed in documents, so that everybody can sign with it: `bifrost access-key new` makes one of your own",
        );
    }
}

/// A line for people, on standard error.
pub(crate) fn say(line: &str) {
    // When the terminal is gone there is nobody left to tell.
    let _ = writeln!(io::stderr(), "{line}");
}

pub(crate) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn read_text(source: impl Read, name: &str) -> Result<Zeroizing<String>, Failure> {
    // An access key fits, so that no grown buffer leaves a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    let mut source = source.take(INPUT_BYTES_MAX as u64 + 1);
    source
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::Input(format!("{name} cannot be read: {error}")))?;
    if bytes.len() > INPUT_BYTES_MAX {
        let problem = format!("{name} holds more than {INPUT_BYTES_MAX} bytes");
        return Err(Failure::Input(problem));
    }
    let text = str::from_utf8(&bytes)
        .map_err(|_| Failure::Input(format!("{name} does not hold UTF-8 text")))?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_has_a_limit_and_is_text() {
        assert_eq!(read_text(&b" a\n"[..], "f").unwrap().as_str(), " a\n");
        let endless = read_text(io::repeat(b'a'), "f");
        assert_eq!(
            endless.unwrap_err(),
            Failure::Input("f holds more than 1048576 bytes".to_owned())
        );
        let binary = read_text(&[0xFF][..], "f");
        assert_eq!(
            binary.unwrap_err(),
            Failure::Input("f does not hold UTF-8 text".to_owned())
        );
    }
}
