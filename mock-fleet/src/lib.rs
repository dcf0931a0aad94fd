//! A faithful simulator of the ODIN Fleet API.
