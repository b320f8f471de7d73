//! The ground that cases are sent over: a wire of the stranger's own to the host, and a host that takes what others
//! refuse, so that nothing but the program protects.

use anyhow::{Context, Result};

use crate::stage::Stage;

/// Adds a veth with one queue, so that frames stay in order, and sets the host's stack to believe what it can.
pub(super) fn prepare(stage: &Stage) -> Result<()> {
    let net = &stage.net;
    net.host.ip(&format!(
        "link add name wire0 numtxqueues 1 numrxqueues 1 address 02:00:00:00:00:01 type veth \
         peer name wire0 numtxqueues 1 numrxqueues 1 netns {}\n\
         link set eth0 address 02:00:00:00:00:01",
        net.stranger.name()
    ))?;
    net.stranger.run(|| Ok(std::fs::write("/proc/sys/net/ipv6/conf/wire0/disable_ipv6", "1")?))?;
    // Nobody answers for what lies behind it.
    net.host.ip("route add blackhole 2001:db8:ffff::/48")?;
    // Frames of the stranger that pretend to be the host's must not turn the switch.
    net.switch.ip("link set stranger type bridge_slave learning off")?;
    net.host.run(|| {
        let set = |key: &str, value: &str| {
            std::fs::write(format!("/proc/sys/net/{key}"), value).with_context(|| format!("set {key}"))
        };
        for device in ["all", "wire0", "eth0"] {
            set(&format!("ipv4/conf/{device}/rp_filter"), "0")?;
            for key in ["accept_local", "route_localnet", "accept_source_route"] {
                set(&format!("ipv4/conf/{device}/{key}"), "1")?;
            }
            set(&format!("ipv6/conf/{device}/accept_source_route"), "1")?;
        }
        // Answers that a limit held back would be answers that were not seen.
        set("ipv4/icmp_ratelimit", "0")?;
        set("ipv6/icmp/ratelimit", "0")?;
        set("ipv4/icmp_echo_ignore_broadcasts", "0")
    })?;
    net.stranger.ip("link set wire0 up")?;
    net.host.ip("link set wire0 up")
}
