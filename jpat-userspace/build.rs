//! Compiles the eBPF object for the controller, with the tool chain that `cargo xtask toolchain` found or installed.
//! Without the feature `daemon` it does nothing.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const TARGET: &str = "bpfel-unknown-none";

fn main() -> Result<(), Box<dyn Error>> {
    if env::var_os("CARGO_FEATURE_DAEMON").is_none() {
        return Ok(());
    }
    let workspace =
        Path::new(&env::var("CARGO_MANIFEST_DIR")?).parent().ok_or("no workspace above jpat-userspace")?.to_owned();
    let ebpf = workspace.join("target/ebpf");
    let description = ebpf.join("toolchain");
    for input in [
        "jpat-ebpf/src",
        "jpat-ebpf/Cargo.toml",
        "jpat-common/src",
        "jpat-common/Cargo.toml",
        "Cargo.toml",
        "Cargo.lock",
        ".cargo/config.toml",
    ] {
        rerun_if_changed(&workspace.join(input));
    }
    rerun_if_changed(&description);

    let toolchain = fs::read_to_string(&description)
        .map_err(|error| format!("the eBPF tool chain is not installed: run `cargo xtask toolchain` ({error})"))?;
    let object = compile(&workspace, &ebpf.join("build"), &toolchain)?;
    fs::copy(object, Path::new(&env::var("OUT_DIR")?).join("jpat.bpf.o"))?;
    Ok(())
}

/// Runs a second cargo for the BPF target, in a target directory of its own: the outer cargo holds the lock of
/// the first.
fn compile(workspace: &Path, target_dir: &Path, toolchain: &str) -> Result<PathBuf, Box<dyn Error>> {
    let value = |key: &str| toolchain.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let program = |key: &str| value(key).ok_or_else(|| format!("target/ebpf/toolchain has no line `{key}=…`"));

    let mut cargo = Command::new(program("cargo")?);
    // What the outer cargo set for the host must not reach the inner one; its home and its offline switch must.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let kept = ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE_", "RUSTUP_HOME"];
        let kept = kept.iter().any(|prefix| name.starts_with(prefix));
        if !kept && ["CARGO", "RUST", "CLIPPY_", "DEP_"].iter().any(|prefix| name.starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    // The outer cargo's library path would give the inner rustc another toolchain's driver, and with it its sysroot.
    cargo.env_remove("LD_LIBRARY_PATH");
    // `RUSTC_BOOTSTRAP` because the BPF target is unstable; here alone, or half of the host's crates change with it.
    cargo
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC", program("rustc")?)
        // The linker of the BPF target sees the whole program anyhow.
        .env("CARGO_PROFILE_RELEASE_LTO", "false")
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags()?)
        .current_dir(workspace)
        .args(["build", "--quiet", "--locked", "--release", "--package", "jpat-ebpf", "--bin", "jpat-xdp"])
        .args(["--target", TARGET, "--target-dir"])
        .arg(target_dir);
    if env::var_os("CARGO_FEATURE_DEBUG_LOG").is_some() {
        cargo.args(["--features", "debug-log"]);
    }
    if program("build-std")? == "yes" {
        cargo.args(["-Z", "build-std=core"]);
    }
    let status = cargo.status().map_err(|error| format!("cannot run {}: {error}", cargo.get_program().display()))?;
    if !status.success() {
        return Err(format!("the eBPF build failed: {} ended with {status}", cargo.get_program().display()).into());
    }
    Ok(target_dir.join(TARGET).join("release/jpat-xdp"))
}

/// Debug information becomes BTF, which the loader and the verifier's log read. Block placement may close a loop by falling
/// through to its head, and Linux 6.1 and older refuse that (`back-edge`, kernel/bpf/verifier.c `check_cfg`).
fn rustflags() -> Result<String, env::VarError> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    Ok([
        format!("--cfg=bpf_target_arch=\"{arch}\""),
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
        "-Clink-arg=--cpu-features=+allows-misaligned-mem-access".into(),
        "-Clink-arg=--llvm-args=--disable-block-placement".into(),
    ]
    .join("\x1f"))
}

fn rerun_if_changed(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}
