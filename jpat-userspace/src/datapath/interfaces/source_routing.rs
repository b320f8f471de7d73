//! Which devices unpack what IPv6 source routing carries.

use std::{fs, path::Path};

use super::Device;

/// Segment routing (RFC 8754) and RPL source routing (RFC 6554): a used-up routing header with an IP packet behind it is
/// taken off (`ipv6_srh_rcv`, `ipv6_rpl_srh_rcv`), and that packet is delivered.
const SETTINGS: [&str; 2] = ["seg6_enabled", "rpl_seg_enabled"];

/// Marks the devices; `conf` is `/proc/sys/net/ipv6/conf` of their network namespace.
pub(super) fn mark(devices: &mut [Device], conf: &Path) {
    let is_on = |device: &str, setting: &str| {
        fs::read_to_string(conf.join(device).join(setting)).is_ok_and(|text| !matches!(text.trim(), "" | "0"))
    };
    // Both must be on: "all", and the device's own.
    for setting in SETTINGS.into_iter().filter(|setting| is_on("all", setting)) {
        for device in devices.iter_mut() {
            device.unpacks_source_routing |= is_on(&device.name, setting);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p2_a_device_unpacks_source_routing_where_it_and_all_are_on() {
        let conf = tempfile::tempdir().unwrap();
        for (device, setting, value) in [
            ("all", "seg6_enabled", "1\n"),
            ("all", "rpl_seg_enabled", "0\n"),
            ("eth0", "seg6_enabled", "1\n"),
            ("eth1", "seg6_enabled", "0\n"),
            ("eth1", "rpl_seg_enabled", "1\n"),
        ] {
            fs::create_dir_all(conf.path().join(device)).unwrap();
            fs::write(conf.path().join(device).join(setting), value).unwrap();
        }
        let mut devices = ["eth0", "eth1", "eth2"].map(|name| Device { name: name.into(), ..Device::default() });
        mark(&mut devices, conf.path());
        assert_eq!(devices.map(|device| device.unpacks_source_routing), [true, false, false]);
    }
}
