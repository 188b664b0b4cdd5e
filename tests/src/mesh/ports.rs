//! Ports that stay ours while nobody listens on them.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the ports that the system gives to outgoing connections: one of those could take the port of a process
/// that is down for a moment.
const FIRST: u32 = 12_000;
const COUNT: u32 = 20_000;

/// A free port of 127.0.0.1 that no other call of this process gets. Other processes begin elsewhere.
pub fn reserve() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(2_654_435_761) % COUNT;
    loop {
        let taken = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(taken < COUNT, "no port is free");
        let port = (FIRST + (begin + taken) % COUNT) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
