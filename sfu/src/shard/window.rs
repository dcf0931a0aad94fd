//! How much voice may be under way to one receiver, over any transport.
//!
//! Voice cannot be sent later and is small, and a lost packet mostly says that a radio link is bad: to halve the rate at every
//! loss, as for files, would silence people on such links without helping anybody. But a link that is full must not be
//! filled more: the window shrinks with each round trip that loses something, never below what a few talkers
//! need, and collapses only where nothing comes through.

/// Bytes under way at the beginning: fifty talkers in a round trip of 10 ms, ten in 50 ms.
pub(super) const WINDOW_BEGIN: u64 = 64 * 1024;

/// Bytes under way that congestion does not take away: five talkers around the world (600 ms and 140 bytes a packet).
pub(super) const WINDOW_MIN: u64 = 24 * 1024;

/// Most bytes under way.
const WINDOW_MAX: u64 = 1024 * 1024;

/// Packets under way where nothing comes through: RFC 9002, section 7.6.2.
const PACKETS_COLLAPSED: u64 = 2;

/// What is left of the window after a round trip with losses, in tenths.
const TENTHS_LEFT: u64 = 8;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct VoiceWindow {
    bytes: u64,
    /// Bytes of a packet.
    mtu: u64,
}

impl VoiceWindow {
    pub(super) fn new(mtu: u16) -> Self {
        Self {
            bytes: WINDOW_BEGIN,
            mtu: mtu.into(),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn replace_mtu(&mut self, mtu: u16) {
        self.mtu = mtu.into();
    }

    /// So many bytes have come. `is_limited` when more would have been sent if they had been allowed: a window that is
    /// not used says nothing about the link.
    pub(super) fn acknowledged(&mut self, bytes: u64, is_limited: bool) {
        if !is_limited && self.bytes >= WINDOW_MIN {
            return;
        }
        // One packet more for each window that is acknowledged.
        let more = (self.mtu * bytes).div_ceil(self.bytes.max(1));
        self.bytes = (self.bytes + more).min(WINDOW_MAX);
    }

    /// A round trip lost something.
    pub(super) fn lost(&mut self) {
        let less = self.bytes * TENTHS_LEFT / 10;
        // A window that has collapsed grows by what is acknowledged alone.
        self.bytes = less.max(self.bytes.min(WINDOW_MIN));
    }

    /// Nothing comes through.
    pub(super) fn collapse(&mut self) {
        self.bytes = PACKETS_COLLAPSED * self.mtu;
    }
}
