//! The modules that the tests need: found by name, uncompressed, and sorted so that each comes after what it depends on.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use super::tools::Tools;

/// Devices, queues, packet filters and socket listings that tests make or ask for. A kernel has each of them as a module,
/// or built in, or not at all: a test that needs one says so itself.
const WANTED: [&str; 32] = [
    "veth",
    "tun",
    "bridge",
    "8021q",
    "vxlan",
    "geneve",
    "dummy",
    "bonding",
    "macvlan",
    "ipvlan",
    "ifb",
    "ipip",
    "gre",
    "ip_gre",
    "ip6_gre",
    "ip6_tunnel",
    "sit",
    "wireguard",
    "netkit",
    "tcp_diag",
    "udp_diag",
    "inet_diag",
    "sch_ingress",
    "sch_netem",
    "cls_bpf",
    "nf_tables",
    "nft_compat",
    "ip_tables",
    "iptable_filter",
    "xfrm_user",
    "esp4",
    "virtio_net",
];

/// Copies the wanted modules of `library` into `to`, uncompressed; the order in which they can be inserted.
pub(super) fn prepare(library: &Path, to: &Path, tools: &Tools) -> Result<Vec<PathBuf>> {
    let mut found = BTreeMap::new();
    find(&library.join("kernel"), &mut found)?;
    ensure!(found.contains_key("veth"), "{} has no module veth", library.display());
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    for name in WANTED.iter().filter(|name| found.contains_key(**name)) {
        insert(name, &found, to, tools, &mut seen, &mut order)?;
    }
    Ok(order)
}

fn insert(
    name: &str,
    found: &BTreeMap<String, PathBuf>,
    to: &Path,
    tools: &Tools,
    seen: &mut BTreeSet<String>,
    order: &mut Vec<PathBuf>,
) -> Result<()> {
    if !seen.insert(name.to_owned()) {
        return Ok(());
    }
    let source = found.get(name).with_context(|| format!("a module depends on {name}, which is not there"))?;
    let copy = to.join(format!("{name}.ko"));
    if !copy.exists() {
        uncompress(source, &copy, tools)?;
    }
    let content = fs::read(&copy).with_context(|| format!("cannot read {}", copy.display()))?;
    for dependency in dependencies(&content) {
        insert(&dependency, found, to, tools, seen, order)?;
    }
    order.push(copy);
    Ok(())
}

/// Names of modules are written with `-` and with `_`; the kernel takes them for the same.
fn find(directory: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let entry = entry.with_context(|| format!("cannot read {}", directory.display()))?;
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find(&path, found)?;
        } else if let Some((name, _)) = entry.file_name().to_str().and_then(|name| name.split_once(".ko")) {
            found.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

fn uncompress(source: &Path, copy: &Path, tools: &Tools) -> Result<()> {
    let applet = match source.extension().and_then(OsStr::to_str) {
        Some("ko") => "cat",
        Some("xz") => "xzcat",
        Some("gz") => "zcat",
        _ => bail!("{} is compressed in a way that busybox does not know", source.display()),
    };
    let partial = copy.with_extension("partial");
    let output = fs::File::create(&partial).with_context(|| format!("cannot write {}", partial.display()))?;
    let input = fs::File::open(source).with_context(|| format!("cannot read {}", source.display()))?;
    let mut command = Command::new(tools.busybox());
    command.arg(applet).stdin(Stdio::from(input)).stdout(Stdio::from(output));
    crate::cargo::succeed(&mut command)?;
    fs::rename(&partial, copy).with_context(|| format!("cannot write {}", copy.display()))
}

/// What `depends=` in a module's `.modinfo` names.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let value: Vec<u8> = module[at + KEY.len()..].iter().copied().take_while(|byte| *byte != 0).collect();
    let text = String::from_utf8_lossy(&value).into_owned();
    text.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modules_dependencies_are_read_from_it() {
        assert_eq!(
            dependencies(b"\x7fELF\0license=GPL\0depends=stp,ip6-udp-tunnel\0name=x\0"),
            ["stp", "ip6_udp_tunnel"]
        );
        assert!(dependencies(b"\x7fELF\0depends=\0intree=Y\0").is_empty());
        assert!(dependencies(b"\x7fELF").is_empty());
    }
}
