//! Who has a good key, and what becomes of each of its knocks.

use std::{collections::BTreeMap, net::UdpSocket, time::Duration};

use anyhow::{Context, Result, bail};
use jpat_tests::wait::{self, PATIENCE};
use jpat_userspace::clock::{self, BootTime};
use nix::{
    errno::Errno,
    sys::{
        signal::Signal,
        socket::{setsockopt, sockopt},
    },
};

use crate::{
    controller::Controller,
    summary::Sorted,
    throughput::Ledger,
    wire::{CLIENT, Wire, send_from},
};

/// How long a knock may take when the flood is over.
const LAST: Duration = Duration::from_secs(3);

pub(super) struct Client<'c> {
    controller: &'c Controller<'c>,
    socket: UdpSocket,
    ledger: Ledger,
    knocks: BTreeMap<String, Knock>,
}

/// When the controller is stopped, and for how long.
#[derive(Clone, Copy)]
pub(super) struct Pause {
    pub(super) after: Duration,
    pub(super) time: Duration,
}

struct Knock {
    sent: BootTime,
    /// Whether the device had room for it.
    is_on_the_wire: bool,
    granted: Option<BootTime>,
}

#[derive(Default)]
pub(super) struct Report {
    sent: u32,
    lost: u32,
    granted: u32,
    took: Option<Sorted>,
    went_on: Option<BootTime>,
    /// From the end of the pause to the last grant of a knock that came in it.
    recovery: Option<Duration>,
    /// The longest wait of a knock sent after the pause.
    afterwards: Option<Duration>,
}

impl<'c> Client<'c> {
    pub(super) fn new(controller: &'c Controller<'c>, wire: &Wire) -> Result<Self> {
        let socket = wire.far.run(|| Ok(UdpSocket::bind((CLIENT, 0))?))?;
        // Without it a full device is no error.
        setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
        Ok(Self { controller, socket, ledger: Ledger::of(&controller.audit())?, knocks: BTreeMap::new() })
    }

    /// One knock, before anything else is on the wire. Returns its datagram.
    pub(super) fn knock_and_wait(&mut self) -> Result<Vec<u8>> {
        let datagram = self.controller.knock("captured")?;
        send_from(&self.socket, CLIENT, &datagram)?;
        wait::for_true("the first grant", PATIENCE, || Ok(self.ledger.more_tokens()?.granted == 1))?;
        Ok(datagram)
    }

    /// Knocks at this rate for so long.
    pub(super) fn run(&mut self, rate: u32, time: Duration, mut pause: Option<Pause>) -> Result<Report> {
        let begin = clock::now().boot;
        let mut report = Report::default();
        let mut stopped = None;
        let mut next = begin;
        loop {
            let now = clock::now().boot;
            if begin.until(now) >= time {
                break;
            }
            if next <= now {
                next = next.after(Duration::from_secs(1) / rate);
                self.knock()?;
            }
            if let Some(due) = pause.filter(|pause| begin.until(now) >= pause.after) {
                self.controller.process.signal(Signal::SIGSTOP)?;
                (stopped, pause) = (Some(now.after(due.time)), None);
            }
            if stopped.is_some_and(|end| end <= now) {
                self.controller.process.signal(Signal::SIGCONT)?;
                (report.went_on, stopped) = (Some(clock::now().boot), None);
            }
            self.look()?;
            std::thread::sleep(Duration::from_micros(500));
        }
        if stopped.is_some() {
            bail!("the controller is still stopped: give it more seconds");
        }
        Ok(report)
    }

    /// Waits for the last grants.
    pub(super) fn finish(mut self, mut report: Report) -> Result<Report> {
        let end = clock::now().boot.after(LAST);
        while self.knocks.values().any(|knock| knock.granted.is_none()) && clock::now().boot < end {
            self.look()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        let knocks = || self.knocks.values();
        let took = |knock: &Knock| Some(knock.sent.until(knock.granted?));
        report.sent = u32::try_from(knocks().count())?;
        report.lost = u32::try_from(knocks().filter(|knock| !knock.is_on_the_wire).count())?;
        report.granted = u32::try_from(knocks().filter(|knock| knock.granted.is_some()).count())?;
        report.took = Some(Sorted::new(knocks().filter_map(took).collect()));
        if let Some(went_on) = report.went_on {
            let before = knocks().filter(|knock| knock.sent < went_on).filter_map(|knock| knock.granted).max();
            report.recovery = before.map(|last| went_on.until(last));
            report.afterwards = knocks().filter(|knock| knock.sent >= went_on).filter_map(took).max();
        }
        Ok(report)
    }

    fn knock(&mut self) -> Result<()> {
        let jti = format!("good-{}", self.knocks.len());
        let datagram = self.controller.knock(&jti)?;
        let sent = clock::now().boot;
        let is_on_the_wire = match send_from(&self.socket, CLIENT, &datagram) {
            Ok(()) => true,
            Err(Errno::ENOBUFS) => false,
            Err(error) => return Err(error).context("send a knock"),
        };
        self.knocks.insert(jti, Knock { sent, is_on_the_wire, granted: None });
        Ok(())
    }

    fn look(&mut self) -> Result<()> {
        let more = self.ledger.more_tokens()?;
        let now = clock::now().boot;
        for token in more.tokens {
            let jti = token.rsplit_once(':').map_or(token.as_str(), |(_, jti)| jti);
            if let Some(knock) = self.knocks.get_mut(jti) {
                knock.granted.get_or_insert(now);
            }
        }
        Ok(())
    }
}

impl Report {
    /// Knocks that the device had room for.
    pub(super) const fn reached(&self) -> u32 {
        self.sent - self.lost
    }

    pub(super) fn render(&self, bar: Option<f64>) -> String {
        let Self { sent, lost, granted, .. } = self;
        let share = f64::from(*granted) / f64::from(self.reached().max(1));
        let verdict = bar.map_or_else(String::new, |bar| {
            let verdict = if share >= bar { "met" } else { "MISSED" };
            format!(", at least {:.1} %: {verdict}", bar * 100.0)
        });
        let mut text = format!(
            "  good knocks: {sent} sent, {lost} lost on the wire, {} reached the program, {granted} granted: {:.2} %{verdict}\n",
            self.reached(),
            share * 100.0
        );
        if let Some(took) = &self.took {
            text += &format!("  from send to grant, as seen in the log: {}\n", took.line());
        }
        if let (Some(recovery), Some(afterwards)) = (self.recovery, self.afterwards) {
            let verdict = if recovery < Duration::from_secs(1) { "met" } else { "MISSED" };
            text += &format!(
                "  after the pause: the last of its knocks granted after {:.0} ms, at most 1 s: {verdict}; later knocks took \
                 at most {:.0} ms\n",
                recovery.as_secs_f64() * 1e3,
                afterwards.as_secs_f64() * 1e3
            );
        }
        text
    }
}
