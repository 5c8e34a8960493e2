//! The executable: hands over to the command line and returns its exit code.
//!
//! Nothing else is here, so that everything can be tested as a library.

fn main() -> std::process::ExitCode {
    wayfarer::cli::main()
}
