//! The room and its words: a voice room as a pure state machine, and the ODIN wire formats.
