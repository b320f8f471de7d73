//! The client and admin tool of JPAT.

fn main() -> std::process::ExitCode {
    jpat_userspace::cli::main()
}
