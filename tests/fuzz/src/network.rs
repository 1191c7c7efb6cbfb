//! Connections between workers.

use streamd_exchange::network::hostile;

use crate::waiting::wait;

/// What a producer sends.
pub fn frames(bytes: &[u8]) -> bool {
    wait(hostile::frames(bytes))
}

/// What a consumer sends.
pub fn notices(bytes: &[u8]) -> bool {
    wait(hostile::notices(bytes))
}

/// What either says first.
pub fn handshake(bytes: &[u8]) -> bool {
    wait(hostile::handshake(bytes))
}
