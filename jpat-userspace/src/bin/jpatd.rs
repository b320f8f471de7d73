//! The controller.

fn main() -> std::process::ExitCode {
    jpat_userspace::daemon::cli::main()
}
