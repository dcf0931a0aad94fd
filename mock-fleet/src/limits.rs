//! Every cap of the simulator, with its unit and the reason for its value.

/// Largest request body in bytes. Config files travel inline, so it is generous.
pub(crate) const BODY_BYTES: usize = 1024 * 1024;
/// Largest metadata of one service in bytes of JSON: every List repeats it.
pub(crate) const METADATA_BYTES: usize = 64 * 1024;
/// Deepest nesting of metadata: below the JSON parser's own limit, far above any real use.
pub(crate) const METADATA_DEPTH: usize = 32;
/// Longest metadata filter in bytes: it has to fit a request line.
pub(crate) const FILTER_BYTES: usize = 8 * 1024;
/// Most conditions in one metadata filter.
pub(crate) const FILTER_CONDITIONS: usize = 64;
/// Items of a page when the caller names no number: the usual default of such APIs.
pub(crate) const PAGE_DEFAULT: i64 = 15;
/// Most items of a page, as the interface declares.
pub(crate) const PAGE_MAX: i64 = 100;
/// Longest short text (names, commands, notes) in characters, as the interface declares.
pub(crate) const NAME_CHARS: usize = 255;
/// Longest session id in characters, as the interface declares.
pub(crate) const SESSION_CHARS: usize = 191;
/// Longest free text (file contents, tokens) in characters.
pub(crate) const TEXT_CHARS: usize = 256 * 1024;
/// Most entries of a list inside a request body (ports, variables, files).
pub(crate) const LIST_ENTRIES: usize = 100;
/// Most instances of one location setting.
pub(crate) const INSTANCES: i64 = 1_000;
/// Most things of one kind (apps, configs, services, …) in the whole world.
pub(crate) const THINGS: usize = 10_000;
/// Log lines kept per service; the oldest go first.
pub(crate) const LOG_LINES: usize = 1_000;
/// Backups kept per service; the oldest go first.
pub(crate) const BACKUPS: usize = 100;
/// Tokens issued at run time that stay valid; the oldest go first.
pub(crate) const ISSUED_TOKENS: usize = 1_000;
/// Download links that stay valid at a time; the oldest go first.
pub(crate) const DOWNLOADS: usize = 1_000;
/// Longest delay or hang a fault may cause, in milliseconds.
pub(crate) const FAULT_DELAY_MS: u64 = 300_000;
/// Most calls that are stalled at a time. Their callers may have gone, so nothing else bounds them.
pub(crate) const FAULT_STALLS: usize = 1_000;
/// Most rules of one fault plan.
pub(crate) const FAULT_RULES: usize = 100;
/// Seconds a backup's download link works.
pub(crate) const DOWNLOAD_SECONDS: i64 = 900;
/// Seconds that open requests get to finish after the shutdown signal.
pub(crate) const DRAIN_SECONDS: u64 = 5;
