//! The program. Everything is in the library; see `src/cli`.

use std::process::ExitCode;

/// Records are made on the threads that serve and freed on the one that stores: the system's allocator passes every one of
/// them through a lock, which cost a tenth of the server's throughput.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    wisp::cli::main()
}
