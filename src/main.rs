<<<<<<< HEAD
fn main() {}
=======
//! The program. Everything is in the library; see `src/cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    wisp::cli::main()
}
>>>>>>> c17b2be (cli: Serve, and be a client with the habits of wsk)
