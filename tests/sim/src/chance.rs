//! The machine's random numbers, made the run's own. Hash maps, the order in which a `select!` looks at its branches,
//! and TLS draw from them, in libraries that offer no other way in; with this, they draw the same each time.
//!
//! It holds for the whole process, which is why a process runs one seed.

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use std::sync::{Mutex, OnceLock, PoisonError};

static SOURCE: OnceLock<Mutex<SmallRng>> = OnceLock::new();

/// From now on every number comes from this seed. Only the first call counts.
pub fn begin(seed: u64) {
    SOURCE.get_or_init(|| Mutex::new(SmallRng::seed_from_u64(seed)));
}

/// In place of the C library's `getrandom`.
///
/// # Safety
/// As getrandom(2): `buffer` is valid for `length` bytes.
#[expect(unsafe_code, reason = "it takes the place of a C function")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    // SAFETY: the caller's promise.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer, length) };
    match SOURCE.get() {
        Some(source) => source.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(bytes),
        // Before the seed is known, in the few numbers a process takes to start.
        None => bytes.fill(0x5a),
    }
    isize::try_from(length).unwrap_or(isize::MAX)
}
