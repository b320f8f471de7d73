//! The runtime's half: it looks, gives the orders, and says what came of them.

use std::time::Duration;

use super::{Seen, one_line};
use crate::{
    clock::{self, BootTime},
    daemon::runtime::Runtime,
    datapath::{
        attach::Attached,
        attacher::{Answer, Order},
        interfaces::{self, Changes, Device, Told},
        ipsec::{self, Ipsec},
    },
};

/// Between two looks at IPsec, which may have states by the thousand.
const IPSEC_PERIOD: Duration = Duration::from_secs(5);

/// What was seen of IPsec, and when.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::daemon) struct LastIpsec {
    found: Option<Ipsec>,
    due: BootTime,
}

/// Says what was obtained on an interface.
pub(in crate::daemon) fn tell(Attached { interface, hook, program, why, .. }: &Attached) {
    match why {
        None => tracing::info!("attached to {interface} ({} mode, {program})", hook.as_str()),
        Some(why) => tracing::warn!("attached to {interface} ({} mode, {program}): {why}", hook.as_str()),
    }
}

impl Runtime {
    /// Takes what the kernel told of devices.
    pub(in crate::daemon) fn on_device_changes(&mut self, changes: &Changes) -> Told {
        let told = changes.drain();
        if told.is_change {
            self.devices.handle_change(clock::now().boot);
        }
        told
    }

    /// Brings the program on every device that is meant, as they are now.
    pub(in crate::daemon) fn look_at_devices(&mut self) {
        let began = clock::now().boot;
        let before = self.devices.unready();
        let exposed_before = self.devices.exposed();
        match interfaces::list() {
            Ok(devices) => self.attend(&devices, began),
            Err(error) => self.devices.handle_blindness(error.to_string(), began, clock::now().boot),
        }
        self.keep_pinned();
        let (unready, exposed) = (self.devices.unready(), self.devices.exposed());
        for alarm in unready.iter().filter(|alarm| !before.contains(alarm)) {
            tracing::error!("{alarm}");
        }
        for alarm in exposed.iter().filter(|alarm| !exposed_before.contains(alarm)) {
            tracing::warn!("{alarm}");
        }
        for alarm in before.iter().chain(&exposed_before) {
            if !unready.contains(alarm) && !exposed.contains(alarm) {
                tracing::info!("no longer: {alarm}");
            }
        }
    }

    fn attend(&mut self, devices: &[Device], began: BootTime) {
        let snapshot = self.snapshot();
        let listen = &snapshot.config.listen;
        let pin = self.trial_ends.is_none();
        let attached: Vec<_> = self.core.datapath.attached().cloned().collect();
        let seen = Seen { devices, attached: &attached, listen, pin };
        for order in self.devices.handle_devices(seen, began) {
            let answer = self.core.datapath.order(&order);
            let lost = match &order {
                Order::Attach { target, .. } => lost(target.ifindex, &attached, devices),
                Order::Release { .. } | Order::ReleaseOthers | Order::Pin => None,
            };
            if let Some(Attached { interface, .. }) = lost {
                tracing::error!("the program was taken away from {interface}");
            }
            self.devices.handle_answer(&order, lost.is_some(), &answer, clock::now().boot);
            match (&order, &answer) {
                (_, Ok(Answer::Attached(attached))) => tell(attached),
                (Order::Release { ifindex }, Ok(_)) => {
                    let gone = attached.iter().find(|gone| gone.ifindex == *ifindex);
                    tracing::info!("{} is gone", gone.map_or("a device", |gone| gone.interface.as_str()));
                }
                // Told as an alarm.
                (Order::Attach { .. }, Err(_)) => {}
                (_, Err(refused)) => tracing::error!("{}", one_line(refused)),
                (_, Ok(_)) => {}
            }
        }
        let attached: Vec<_> = self.core.datapath.attached().cloned().collect();
        let now = clock::now().boot;
        if self.ipsec.due <= now {
            self.ipsec = LastIpsec { found: ipsec::read().ok(), due: now.after(IPSEC_PERIOD) };
        }
        let seen = Seen { devices, attached: &attached, listen, pin };
        self.devices.handle_end(seen, self.ipsec.found, began, clock::now().boot);
    }

    /// Makes pins again that somebody removed. The links are held, so nothing opened meanwhile.
    fn keep_pinned(&mut self) {
        if self.trial_ends.is_some() || self.core.datapath.is_pinned() {
            return;
        }
        tracing::error!("pins are gone: they are made again");
        let made = self.core.datapath.pin().map_err(|error| format!("{:#}", anyhow::Error::from(error)));
        self.devices.handle_pins(made);
    }
}

/// What was attached there and is no more, though the device is there.
fn lost<'a>(ifindex: u32, attached: &'a [Attached], devices: &[Device]) -> Option<&'a Attached> {
    let device = devices.iter().find(|device| device.index == ifindex)?;
    attached.iter().find(|lost| lost.ifindex == ifindex && !device.xdp_programs.contains(&lost.program_id))
}
