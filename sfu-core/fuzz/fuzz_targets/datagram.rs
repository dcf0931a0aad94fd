//! Any bytes are a datagram or an error, and a datagram cut to one of its medias is that datagram with that media alone.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sfu_core::wire::datagram::Datagram;

fuzz_target!(|data: &[u8]| {
    let Ok(datagram) = Datagram::parse(data) else {
        return;
    };
    assert_eq!(datagram.bytes(), data);
    assert!(matches!(datagram.medias().len(), 1..=4));
    assert!(datagram.payload_bytes < data.len());
    for media in datagram.medias() {
        let cut = datagram.for_media(*media);
        assert!(
            cut.len() <= data.len(),
            "what fitted into a packet still does"
        );
        let again = Datagram::parse(&cut).expect("a datagram that was cut is one");
        assert_eq!(again.medias(), [*media]);
        let essence = |it: &Datagram<'_>| (it.sequence, it.timestamp, it.payload_bytes);
        assert_eq!(essence(&again), essence(&datagram));
        assert_eq!(again.for_media(*media), cut, "nothing is left to cut");
        let tail = cut.len() - datagram.payload_bytes;
        assert_eq!(cut[tail..], data[data.len() - datagram.payload_bytes..]);
    }
});
