//! Devices come, go, and lose their program: what is to be done about it, and when. Sans-IO; the runtime's half is in
//! [`runtime`].

mod runtime;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

pub(super) use self::runtime::{LastIpsec, tell};
use crate::{
    clock::BootTime,
    config::Listen,
    datapath::{
        attach::Attached,
        attacher::{Answer, Earlier, Order, Refused},
        exposure::{self, Exposure},
        interfaces::{self, Device},
        ipsec::Ipsec,
    },
};

/// Between two looks when nothing is told: an attachment can be taken away without a message.
const PERIOD: Duration = Duration::from_millis(250);
/// A two-hundredth of the time goes into looking, however many devices there are.
const PERIOD_FACTOR: u32 = 200;
/// But a host that is busy with other things is looked at all the same.
const MAX_PERIOD: Duration = Duration::from_secs(1);
/// Between a look and the next, however often devices change: half of the time is for others.
const MIN_PAUSE: Duration = Duration::from_millis(1);
const MAX_PAUSE: Duration = Duration::from_millis(50);
/// Between attempts at a device that cannot be had.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// What is known of the devices.
#[derive(Debug)]
pub(super) struct Devices {
    due: BootTime,
    /// No look before.
    rested: BootTime,
    failing: BTreeMap<u32, Failing>,
    /// How often the program was put back.
    restored: u64,
    /// Devices that `listen.interfaces` names and that are not there.
    waiting: Vec<String>,
    exposure: Exposure,
    /// Why the devices are not known.
    blind: Option<String>,
    /// Why the pins are gone and were not made again.
    unpinned: Option<String>,
}

/// A device that could not be attached to.
#[derive(Debug)]
struct Failing {
    why: String,
    pause: Duration,
    due: BootTime,
}

/// What a look found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) devices: &'a [Device],
    pub(super) attached: &'a [Attached],
    pub(super) listen: &'a Listen,
    /// Whether what is attached is to outlive the controller.
    pub(super) pin: bool,
}

impl Devices {
    /// The first look is due at once: what changed before the subscription was not told.
    pub(super) fn new(now: BootTime) -> Self {
        Self {
            due: now,
            rested: now,
            failing: BTreeMap::new(),
            restored: 0,
            waiting: Vec::new(),
            exposure: Exposure::default(),
            blind: None,
            unpinned: None,
        }
    }

    /// Something changed: it is looked at now, or together with what else changes while it has to wait.
    pub(super) fn handle_change(&mut self, now: BootTime) {
        self.due = self.due.min(now.max(self.rested));
    }

    /// When to look.
    pub(super) const fn poll_timeout(&self) -> BootTime {
        self.due
    }

    /// What is to be done about what is seen.
    pub(super) fn handle_devices(&mut self, seen: Seen<'_>, now: BootTime) -> Vec<Order> {
        let Seen { devices, attached, listen, pin } = seen;
        self.blind = None;
        let device = |ifindex| devices.iter().find(|device| device.index == ifindex);
        self.failing.retain(|ifindex, _| device(*ifindex).is_some());
        let found = interfaces::resolve(&listen.interfaces, devices);
        self.waiting =
            found.unmatched.iter().filter_map(|at| listen.interfaces.get(*at)).map(ToString::to_string).collect();
        let is_due = |ifindex: u32| self.failing.get(&ifindex).is_none_or(|failing| failing.due <= now);
        let attach =
            |target: interfaces::Target| Order::Attach { target, mode: listen.attach, earlier: Earlier::TakeOver, pin };
        let mut orders = Vec::new();
        for Attached { ifindex, interface, link_layer, program_id, .. } in attached {
            match device(*ifindex) {
                None => orders.push(Order::Release { ifindex: *ifindex }),
                Some(device) if device.xdp_programs.contains(program_id) && device.name == *interface => {}
                // Another device by now, that has the number of an old one.
                Some(device) if device.link_layer() != Ok(*link_layer) => {
                    orders.push(Order::Release { ifindex: *ifindex });
                }
                // Taken away, or renamed.
                Some(device) if is_due(*ifindex) => {
                    let (ifindex, interface, link_layer) = (*ifindex, device.name.clone(), *link_layer);
                    orders.push(attach(interfaces::Target { ifindex, interface, link_layer }));
                }
                Some(_) => {}
            }
        }
        let released = orders.clone();
        let is_attached = |ifindex| {
            attached.iter().any(|attached| attached.ifindex == ifindex)
                && !released.contains(&Order::Release { ifindex })
        };
        let new = found.targets.into_iter().filter(|target| !is_attached(target.ifindex) && is_due(target.ifindex));
        orders.extend(new.map(attach));
        orders
    }

    /// What came of an order. `was_lost` is whether the program had been taken away from there.
    pub(super) fn handle_answer(
        &mut self,
        order: &Order,
        was_lost: bool,
        answer: &Result<Answer, Refused>,
        now: BootTime,
    ) {
        let Order::Attach { target, .. } = order else { return };
        match answer {
            Ok(_) => {
                self.failing.remove(&target.ifindex);
                self.restored += u64::from(was_lost);
            }
            Err(refused) => {
                let pause = self.failing.get(&target.ifindex).map_or(FIRST_RETRY, |failing| failing.pause * 2);
                let pause = pause.min(LAST_RETRY);
                let why = format!("{} is not protected: {}", target.interface, one_line(refused));
                self.failing.insert(target.ifindex, Failing { why, pause, due: now.after(pause) });
            }
        }
    }

    /// The look that began and ended then is over.
    pub(super) fn handle_end(&mut self, seen: Seen<'_>, ipsec: Option<Ipsec>, began: BootTime, ended: BootTime) {
        let attached: BTreeSet<_> = seen.attached.iter().map(|attached| attached.ifindex).collect();
        self.exposure = exposure::of(seen.devices, &attached, ipsec, seen.listen.drop_tunnels);
        self.rest(began, ended);
    }

    /// The devices could not be listed.
    pub(super) fn handle_blindness(&mut self, why: String, began: BootTime, ended: BootTime) {
        self.blind = Some(why);
        self.rest(began, ended);
    }

    /// How the pins stand that were made again, if they had to be.
    pub(super) fn handle_pins(&mut self, made: Result<(), String>) {
        self.unpinned = made.err();
    }

    fn rest(&mut self, began: BootTime, ended: BootTime) {
        let took = began.until(ended);
        self.rested = ended.after(took.clamp(MIN_PAUSE, MAX_PAUSE));
        let retry = self.failing.values().map(|failing| failing.due).min();
        let period = ended.after(took.saturating_mul(PERIOD_FACTOR).clamp(PERIOD, MAX_PERIOD));
        self.due = retry.map_or(period, |retry| period.min(retry)).max(self.rested);
    }

    /// Why listed devices may be open.
    pub(super) fn unready(&self) -> Vec<String> {
        let blind = self.blind.as_ref().map(|why| format!("what is attached is not known: {why}"));
        let unpinned =
            self.unpinned.as_ref().map(|why| format!("the pins are gone and cannot be made again: {}", one_line(why)));
        let failing = self.failing.values().map(|failing| failing.why.clone());
        failing.chain(blind).chain(unpinned).collect()
    }

    /// Ways to protected ports that pass the program by.
    pub(super) fn exposed(&self) -> Vec<String> {
        self.exposure.exposed.iter().map(ToString::to_string).collect()
    }

    /// How many devices those are; IPsec counts as one.
    pub(super) fn exposed_count(&self) -> usize {
        self.exposure.exposed.iter().map(|exposed| exposed.devices.len().max(1)).sum()
    }

    pub(super) fn failing_count(&self) -> usize {
        self.failing.len()
    }

    pub(super) fn not_judged(&self) -> &[String] {
        &self.exposure.not_judged
    }

    pub(super) fn waiting(&self) -> &[String] {
        &self.waiting
    }

    pub(super) const fn restored(&self) -> u64 {
        self.restored
    }
}

/// A message and its remedy, where lines are items.
fn one_line(message: impl ToString) -> String {
    message.to_string().replace("\n  remedy:", "; remedy:")
}

#[cfg(test)]
mod tests;
