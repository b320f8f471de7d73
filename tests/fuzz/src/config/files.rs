//! Key files that configurations can name.

use std::{
    env, fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process,
    sync::LazyLock,
};

/// 32 bytes as base64url text.
const KEY: &[u8] = b"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc\n";

/// Name, content and mode of each file.
const FILES: [(&str, &[u8], u32); 6] = [
    ("server.key", KEY, 0o600),
    ("knock.key", KEY, 0o600),
    ("secret", KEY, 0o600),
    ("short", b"short\n", 0o600),
    ("exposed", KEY, 0o644),
    ("public", b"{}", 0o644),
];

/// Where every configuration is said to lie: beside the files, in a directory of this user that is made once. Secrets must not be
/// readable by others, which a version control cannot promise.
pub(super) static CONFIGURATION: LazyLock<PathBuf> = LazyLock::new(|| {
    let user = fs::metadata("/proc/self").map_or(0, |process| process.uid());
    let directory = env::temp_dir().join(format!("jpat-fuzz-{user}"));
    fs::create_dir_all(&directory).expect("a directory for temporary files");
    for (name, content, mode) in FILES {
        write(&directory.join(name), content, mode);
    }
    directory.join("jpat.toml")
});

/// In one step: other processes may be reading it.
fn write(path: &Path, content: &[u8], mode: u32) {
    let fresh = path.with_extension(process::id().to_string());
    fs::write(&fresh, content).expect("a temporary file is written");
    fs::set_permissions(&fresh, fs::Permissions::from_mode(mode)).expect("its mode is set");
    fs::rename(&fresh, path).expect("and it is put in its place");
}
