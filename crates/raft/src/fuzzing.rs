//! The decoders as the fuzzer calls them, with any bytes. They must not panic, loop, or take memory
//! beyond a small multiple of their input; and what they accept is encoded to what they accept
//! again.

use bytes::Bytes;

use crate::codec;

/// Decodes bytes as everything they could be.
///
/// # Panics
/// If what was decoded is not what its own encoding decodes to.
pub fn message(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(message) = codec::decode_message(&bytes) {
        let mut again = Vec::new();
        codec::encode_message(&message, &mut again);
        assert_eq!(codec::decode_message(&again.into()), Ok(message));
    }
    if let Ok(payload) = codec::decode_payload(&bytes) {
        let mut again = Vec::new();
        codec::encode_payload(&payload, &mut again);
        assert_eq!(codec::decode_payload(&again.into()), Ok(payload));
    }
    if let Ok(config) = codec::decode_config(&bytes) {
        let mut again = Vec::new();
        codec::encode_config(&config, &mut again);
        assert_eq!(codec::decode_config(&again), Ok(config));
    }
}
