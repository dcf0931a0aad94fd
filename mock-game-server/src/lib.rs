//! A stand-in game server that marks itself idle or occupied in its instance metadata.
