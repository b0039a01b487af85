//! The real server and the real client, unchanged, on a simulated network in virtual time.
//!
//! Everything that happens follows from a seed: the network ([`Net`]), the disk ([`Disk`]), the processes
//! ([`ServerHost`], [`Phone`]) take their time from tokio's paused clock and their randomness from
//! the seed, and all of a world runs on one thread ([`in_virtual_time`]). Time passes only when nobody has
//! anything to do, and then it jumps.
//!
//! ```
//! use std::time::Duration;
//! use tern_netsim::sim::{Net, Access, in_virtual_time};
//!
//! let hash = || in_virtual_time(|| async {
//!     let net = Net::new(7);
//!     net.add_host(&Access::default())?;
//!     // A minute that takes no time.
//!     tokio::time::sleep(Duration::from_secs(60)).await;
//!     Ok::<_, tern_netsim::link::LinkError>(net.trace_hash())
//! });
//! assert_eq!(hash()??, hash()??);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod attacker;
mod credentials;
mod disk;
mod guard;
mod lies;
mod net;
mod phone;
mod radio;
mod server;
mod socket;

use std::{future::Future, io};

pub use self::{
    attacker::Attacker,
    credentials::Credentials,
    disk::{Disk, DiskSettings, SimStore},
    guard::{Stuck, within},
    net::{Access, HostId, Net, PathId, Recorded, Traffic},
    phone::{Phone, PhoneError},
    radio::Radio,
    server::{SERVER_PORT, ServerError, ServerHost},
    socket::SimSocket,
};

/// The time of day at which every world begins, milliseconds since the epoch: 1 January 2030.
pub const BEGINNING_MS: u64 = 1_893_456_000_000;

/// Runs a world on a thread of its own, with a clock that jumps whenever nobody has anything to do.
///
/// A fresh thread for each run, since some libraries keep state in the thread.
///
/// # Errors
///
/// An error of the operating system if there is no thread or runtime to be had, or the world panicked.
pub fn in_virtual_time<T, F>(world: impl FnOnce() -> F + Send) -> io::Result<T>
where
    F: Future<Output = T>,
    T: Send,
{
    std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().name("world".into()).spawn_scoped(scope, || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_time()
                    .start_paused(true)
                    .build()?;
                Ok(runtime.block_on(async { world().await }))
            })?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the simulated world panicked")))
    })
}

/// A seed for one of several uses of randomness, from the seed of the run.
fn seed_for(seed: u64, purpose: &str, number: u64) -> u64 {
    let text = purpose.bytes().fold(seed, |sum, byte| net::mix(sum ^ u64::from(byte)));
    net::mix(text ^ number)
}

/// The same as 32 bytes.
fn seed_bytes(seed: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (number, chunk) in (0..).zip(bytes.chunks_mut(8)) {
        chunk.copy_from_slice(&net::mix(seed ^ number).to_le_bytes());
    }
    bytes
}
