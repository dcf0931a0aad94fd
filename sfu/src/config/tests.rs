//! What the settings take and refuse.
