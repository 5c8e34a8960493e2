//! The executable: hands over to the command line and returns its exit code.
//!
//! Nothing else is here but the choice of the allocator, so that everything can be tested as a library.

/// What connections and sessions that have gone had goes back to the system; the C library's allocator keeps most of it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    wayfarer::cli::main()
}
