//! The floor relay: see `voice_load::relay`.

fn main() -> std::io::Result<()> {
    voice_load::relay()
}
