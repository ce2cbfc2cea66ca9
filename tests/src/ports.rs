//! Ports that a process can be told to listen on before it runs, and again after it died.

use std::collections::HashMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, process};

use rustix::fs::{FlockOperation, flock};

/// Below the range that systems draw ephemeral ports from: no outgoing connection takes one of these while its node is down.
const FIRST: u16 = 18_000;
const COUNT: u16 = 14_000;

/// A port on 127.0.0.1 that is free now, and that this process hands out once, and no other test program while this one runs: one that is free may be
/// somebody's who has not listened on it yet.
///
/// # Panics
/// When no port is free, or the lock files cannot be made.
#[must_use]
pub fn reserve() -> u16 {
    static TAKEN: LazyLock<Mutex<HashMap<u16, File>>> = LazyLock::new(Mutex::default);
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    // Test programs that run at the same time start at different places.
    let start = (process::id().wrapping_mul(7919) ^ nanos()) % u32::from(COUNT);
    for offset in 0..COUNT {
        let port = FIRST + ((start + u32::from(offset)) % u32::from(COUNT)) as u16;
        if taken.contains_key(&port) {
            continue;
        }
        let Some(lock) = lock(port) else { continue };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            taken.insert(port, lock);
            return port;
        }
    }
    panic!("no port from {FIRST} to {} is free", FIRST + COUNT - 1);
}

/// The lock of a port, which ends with the process that has it; `None` where another has.
fn lock(port: u16) -> Option<File> {
    let directory = env::temp_dir().join("groupcache-test-ports");
    let file = fs::create_dir_all(&directory).and_then(|()| File::create(directory.join(port.to_string())));
    let file = file.unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok().then_some(file)
}

fn nanos() -> u32 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_port_that_is_reserved_is_locked_for_every_other_program() {
        let port = reserve();
        assert!(lock(port).is_none(), "{port}");
    }

    #[test]
    fn a_reserved_port_is_free_and_handed_out_once() {
        let ports: HashSet<u16> = (0..50).map(|_| reserve()).collect();
        assert_eq!(ports.len(), 50);
        for port in ports {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a reserved port can be bound");
        }
    }
}
