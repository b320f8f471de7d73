//! The figures of one kind.

use std::{fmt, time::Duration};

use jpat_tests::{stranger::Tried, stream::Report};

use crate::summary::Sorted;

pub(super) struct Round {
    cycles: u32,
    tried: Tried,
    report: Report,
    ready: Sorted,
    answered: Sorted,
}

impl Round {
    pub(super) fn new(
        cycles: u32,
        tried: Tried,
        report: Report,
        ready: Vec<Duration>,
        answered: Vec<Duration>,
    ) -> Self {
        Self { cycles, tried, report, ready: Sorted::new(ready), answered: Sorted::new(answered) }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cycles, tried, report, ready, answered } = self;
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        let [heard, sent] = report.longest_gap;
        writeln!(f, "  cycles                   {cycles}")?;
        writeln!(
            f,
            "  leaked packets           {} of {} SYNs and {} datagrams",
            tried.answers + report.foreign,
            tried.syns,
            tried.datagrams
        )?;
        writeln!(f, "  lost granted datagrams   {} of {}", report.lost, report.datagrams)?;
        writeln!(
            f,
            "  TCP transfer             {} bytes back intact, {} segments lost",
            report.bytes, report.retransmitted
        )?;
        writeln!(
            f,
            "  longest gap              {:.3} ms at the listener, {:.3} ms at the sender",
            ms(heard),
            ms(sent)
        )?;
        writeln!(f, "  exec to ready            {}", ready.line())?;
        write!(f, "  knocks unanswered for    {}", answered.line())
    }
}
