//! The floor relay: see [`voice_load::floor_relay`].

fn main() -> std::io::Result<()> {
    voice_load::floor_relay()
}
