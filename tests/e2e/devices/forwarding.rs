//! Traffic that the host forwards: to the numbers of its own protected ports, but not to itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    netns::NetNs,
    network::{Family, Member},
    packet::{
        self, AUTHENTICATION, DESTINATION_OPTIONS, ETHER_IPV4, ETHER_IPV6, FRAGMENT, HOP_BY_HOP, MOBILITY, ROUTING,
        SYN, TCP,
    },
    probe::{self, Port},
    services::{Service, Services},
    wait::{self, PATIENCE},
    wire::{Tap, Wire},
};
use libtest_mimic::Trial;

use super::{expect_closed, on, tell};
use crate::{
    config::{Config, DB, HTTPS, KNOCK_PORT, UDP, listen},
    stage::Stage,
    trial,
};

/// The MAC address of the host towards the stranger.
const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// What every raw packet ends with.
const MARK: &[u8] = b"forwarded as it is";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::on("p2_forwarded_traffic_is_not_harmed_routed_native", || on("\"eth0\", \"back0\""), routed),
        trial::on("p2_forwarded_traffic_is_not_harmed_routed_generic", generic, routed),
        trial::on(
            "p2_forwarded_traffic_is_not_harmed_bridged_with_the_program_on_the_ports",
            || on("\"eth0\", \"back0\""),
            bridged,
        ),
        trial::on(
            "p2_forwarded_traffic_is_not_harmed_bridged_with_the_program_on_the_bridge",
            || on("\"br0\""),
            bridged,
        ),
    ]
}

fn generic() -> Config {
    Config { listen: listen("\"eth0\", \"back0\"", "generic"), ..Config::default() }
}

/// A host behind the protected one, with services at the same ports.
struct Behind {
    ns: NetNs,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    _services: Services,
}

impl Behind {
    fn create(stage: &Stage, v4: Ipv4Addr, v6: Ipv6Addr) -> Result<Self> {
        let name = stage.net.host.name().replace("-host", "-behind");
        let ns = NetNs::create(&name)?;
        stage.net.host.ip(&format!("link add name back0 type veth peer name eth0 netns {name}"))?;
        ns.ip(&format!("link set eth0 up\naddr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0 nodad"))?;
        let listeners =
            vec![Service::Https(HTTPS), Service::TcpEcho(DB), Service::UdpEcho(UDP), Service::UdpEcho(KNOCK_PORT)];
        let services = Services::start(&ns, listeners)?;
        Ok(Self { ns, v4, v6, _services: services })
    }
}

fn routed(stage: &mut Stage) -> Result<()> {
    let behind =
        Behind::create(stage, Ipv4Addr::new(198, 51, 100, 9), Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 9))?;
    stage
        .net
        .host
        .ip("link set eth0 address 02:00:00:00:00:01\nlink set back0 up\naddr add 198.51.100.1/24 dev back0\n\
         addr add 2001:db8:ff::1/64 dev back0 nodad")?;
    stage.net.host.run(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
        Ok(std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")?)
    })?;
    behind.ns.ip("route add default via 198.51.100.1\nroute add default via 2001:db8:ff::1")?;
    stage.net.stranger.ip("route add 198.51.100.0/24 via 192.0.2.1\nroute add 2001:db8:ff::/64 via 2001:db8::1")?;
    judge(stage, &behind)?;
    // The host's address on the other side is the host's all the same.
    expect_silent(stage, Ipv4Addr::new(198, 51, 100, 1).into())?;
    expect_silent(stage, Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 1).into())
}

fn bridged(stage: &mut Stage) -> Result<()> {
    let behind = Behind::create(stage, Ipv4Addr::new(192, 0, 2, 9), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9))?;
    behind.ns.ip("link set eth0 address 02:00:00:00:00:01")?;
    stage.net.host.ip(
        "addr flush dev eth0\nlink add name br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
         link set eth0 master br0\nlink set back0 master br0\nlink set back0 up\nlink set br0 up\n\
         addr add 192.0.2.1/24 dev br0\naddr add 2001:db8::1/64 dev br0 nodad",
    )?;
    judge(stage, &behind)
}

fn judge(stage: &mut Stage, behind: &Behind) -> Result<()> {
    everything_arrives(stage, behind).context("without jpatd")?;
    stage.start(&[])?;
    let arrived = everything_arrives(stage, behind).context("with jpatd")?;
    tell(&format!("{arrived} kinds of raw packets forwarded, and every service behind"));
    for family in Family::ALL {
        expect_closed(stage, Member::Host.address(family))?;
    }
    Ok(())
}

fn expect_silent(stage: &Stage, address: IpAddr) -> Result<()> {
    let found = (super::tcp(stage, address, HTTPS)?, super::udp(stage, address)?);
    ensure!(found == (Port::Silent, Port::Silent), "the stranger finds {found:?} on {address}");
    Ok(())
}

/// Requires that the stranger reaches every service behind the host, and that packets of every kind arrive; how many.
fn everything_arrives(stage: &Stage, behind: &Behind) -> Result<usize> {
    for address in [IpAddr::V4(behind.v4), IpAddr::V6(behind.v6)] {
        for port in [HTTPS, DB] {
            wait::for_true(&format!("tcp/{port} on {address}"), PATIENCE, || {
                Ok(probe::tcp(&stage.net.stranger, SocketAddr::new(address, port))? == Port::Open)
            })?;
        }
        // The larger ones are fragments, of a protected and of the knock port's number.
        for (port, size) in [(UDP, 10), (UDP, 4000), (KNOCK_PORT, 10), (KNOCK_PORT, 1400), (KNOCK_PORT, 4000)] {
            let found = probe::udp_of(&stage.net.stranger, SocketAddr::new(address, port), size)?;
            ensure!(found == Port::Open, "{size} bytes to udp/{port} on {address}: {found:?}");
        }
    }
    let (tap, wire) = (Tap::open(&behind.ns)?, Wire::open(&stage.net.stranger, "eth0")?);
    let packets = packets(behind);
    for (at, (_, ether_type, packet)) in packets.iter().enumerate() {
        let mut frame = packet::ethernet(*ether_type, packet);
        frame[..6].copy_from_slice(&HARDWARE);
        frame.extend([MARK, &[at as u8]].concat());
        wire.send(&frame)?;
    }
    let mut missing: Vec<_> = (0..packets.len()).collect();
    let arrived = wait::for_true("every packet behind the host", PATIENCE, || {
        for frame in tap.drain()? {
            if let Some((at, marked)) = frame.split_last()
                && marked.ends_with(MARK)
            {
                missing.retain(|missing| *missing != usize::from(*at));
            }
        }
        Ok(missing.is_empty())
    });
    let names: Vec<_> = missing.iter().map(|at| packets[*at].0.as_str()).collect();
    arrived.with_context(|| format!("missing: {names:?}"))?;
    Ok(packets.len())
}

/// Packets that the program would not let through to the host itself, or not all of them; the mark is still to come, and
/// counted.
fn packets(behind: &Behind) -> Vec<(String, u16, Vec<u8>)> {
    let mark = vec![0; MARK.len() + 1];
    let (IpAddr::V4(from4), IpAddr::V6(from6)) =
        (Member::Stranger.address(Family::V4), Member::Stranger.address(Family::V6))
    else {
        return Vec::new();
    };
    let v4 = |protocol, fragment, options: &[u8], payload: &[u8]| {
        let whole = [payload, &mark].concat();
        let mut packet = packet::ipv4(from4.octets(), behind.v4.octets(), protocol, fragment, options, &whole);
        packet.truncate(packet.len() - mark.len());
        (ETHER_IPV4, packet)
    };
    let v6 = |next, payload: &[u8]| {
        let whole = [payload, &mark].concat();
        let mut packet = packet::ipv6(from6.octets(), behind.v6.octets(), next, &whole);
        packet.truncate(packet.len() - mark.len());
        (ETHER_IPV6, packet)
    };
    let syn = packet::tcp(HTTPS, SYN, &[]);
    let mut rows = Vec::new();
    let mut add = |name: String, (ether_type, packet)| rows.push((name, ether_type, packet));
    // IPIP, IGMP, 6in4, RSVP, GRE, ESP, AH, OSPF, SCTP, UDP-Lite, and one that is nobody's.
    for protocol in [2, 4, 41, 46, 47, 50, 51, 89, 132, 136, 253] {
        add(format!("IPv4 protocol {protocol}"), v4(protocol, 0, &[], &[0; 24]));
        if protocol != 51 {
            add(format!("IPv6 next header {protocol}"), v6(protocol, &[0; 24]));
        }
    }
    add("IPv4 options".into(), v4(TCP, 0, &[1, 1, 1, 1], &syn));
    add("first fragment".into(), v4(TCP, 0x2000, &[], &syn));
    add("tiny first fragment".into(), v4(TCP, 0x2000, &[], &syn[..8]));
    add("later fragment".into(), v4(TCP, 0x0004, &[], &syn));
    for flags in 0..64 {
        add(format!("TCP flags {flags:#04x}"), v4(TCP, 0, &[], &packet::tcp(HTTPS, flags, &[])));
    }
    for kinds in [
        vec![HOP_BY_HOP],
        vec![DESTINATION_OPTIONS],
        vec![ROUTING],
        vec![AUTHENTICATION],
        vec![MOBILITY],
        vec![FRAGMENT],
        vec![FRAGMENT, FRAGMENT],
        vec![DESTINATION_OPTIONS; 3],
        vec![HOP_BY_HOP, DESTINATION_OPTIONS, ROUTING, DESTINATION_OPTIONS],
    ] {
        let (next, bytes) = packet::extended(&kinds, TCP, &syn);
        add(format!("extension headers {kinds:?}"), v6(next, &bytes));
    }
    add(
        "IPv6 first fragment".into(),
        v6(FRAGMENT, &packet::fragment(TCP, 0, true, &[syn.as_slice(), &[0; 1]].concat())),
    );
    add("IPv6 later fragment".into(), v6(FRAGMENT, &packet::fragment(TCP, 64, false, &syn)));
    rows
}
