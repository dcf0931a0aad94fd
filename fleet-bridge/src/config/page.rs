//! The `[page]` section.

use reqwest::Url;
use serde::Deserialize;
use service::{Settings, SettingsError};

/// Voice servers whose metrics the bridge reads: each is a call every few seconds while somebody looks.
const VOICE_METRICS_MAX: usize = 16;

/// Hexadecimal digits of a SHA-256.
const SHA256_DIGITS: usize = 64;

/// What the page in the browser shows, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageSettings {
    /// The page is served at `/`. It holds nothing itself: what it shows comes over the interface, with a token.
    pub enabled: bool,
    /// Whoever reaches the port may look at the servers (without their addresses) and at voice without a token. Nobody
    /// may change anything for that.
    pub public: bool,
    /// The page has buttons that start and end matches, for those whose token may write.
    pub controls: bool,
    /// Where voice servers publish their metrics.
    pub voice_metrics: Vec<Url>,
    /// SHA-256 of the certificate that voice servers show where no authority has signed it: 64 hexadecimal digits.
    /// Browsers are told to trust it. For development.
    pub voice_certificate_sha256: Option<String>,
}

impl Default for PageSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            public: false,
            controls: false,
            voice_metrics: Vec::new(),
            voice_certificate_sha256: None,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PageSection {
    enabled: Option<bool>,
    public: bool,
    controls: bool,
    voice_metrics: Vec<String>,
    voice_certificate_sha256: Option<String>,
}

impl PageSection {
    pub(super) fn judge(self, settings: &Settings) -> Result<PageSettings, SettingsError> {
        let refused = |name: &str, text: String| settings.error(&format!("page.{name}"), text);
        if self.voice_metrics.len() > VOICE_METRICS_MAX {
            let text = format!("more than {VOICE_METRICS_MAX}");
            return Err(refused("voice_metrics", text));
        }
        let address = |text: &String| {
            let url = Url::parse(text).ok();
            let url = url.filter(|url| matches!(url.scheme(), "http" | "https"));
            // A password would stand wherever settings are shown.
            let url = url.filter(|url| url.username().is_empty() && url.password().is_none());
            url.ok_or_else(|| {
                let text = "each must be like http://127.0.0.1:9000/metrics, without a password";
                refused("voice_metrics", text.to_owned())
            })
        };
        let voice_metrics: Result<Vec<_>, _> = self.voice_metrics.iter().map(address).collect();
        let is_hash = |text: &str| {
            text.len() == SHA256_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        if let Some(text) = &self.voice_certificate_sha256
            && !is_hash(text)
        {
            let text = format!("it must be {SHA256_DIGITS} hexadecimal digits");
            return Err(refused("voice_certificate_sha256", text));
        }
        Ok(PageSettings {
            enabled: self.enabled.unwrap_or(true),
            public: self.public,
            controls: self.controls,
            voice_metrics: voice_metrics?,
            voice_certificate_sha256: self.voice_certificate_sha256,
        })
    }
}
