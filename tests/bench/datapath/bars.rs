//! What the data path promises about its speed, and what it came to.

use super::{
    plan::{BAD_TAG, DROP, DROP_FLOOR, FLOW, Mode, PASS_FLOOR, varied},
    rivals,
    rounds::Figures,
    subject::Program,
    table::Spread,
};

/// Grants of the look-up that is judged.
const MANY: u32 = 1_000_000;

struct Bar {
    text: String,
    /// None where the figure is only shown.
    limit: Option<f64>,
    /// One figure of each round.
    figures: Vec<f64>,
}

/// Every bar that the rows allow to judge.
pub(crate) fn render(figures: &Figures) -> String {
    let mut text = format!("{:<66}{:>8}{:>26}\n", "", "at most", "median (least, greatest)");
    for bar in bars(figures) {
        let Some(Spread { median, least, greatest }) = Spread::of(bar.figures) else { continue };
        let spread = format!("{median:.2} ({least:.2}, {greatest:.2})");
        let (limit, verdict) = match bar.limit {
            None => (String::new(), ""),
            Some(limit) if median <= limit => (format!("{limit:.2}"), "  met"),
            Some(limit) => (format!("{limit:.2}"), "  MISSED"),
        };
        text += &format!("{:<66}{limit:>8}{spread:>26}{verdict}\n", bar.text);
    }
    text
}

fn bars(figures: &Figures) -> Vec<Bar> {
    let mut bars = Vec::new();
    let mut ratio = |text: &str, limit, over: &str, under: &str, mode| {
        let figures = pairs(figures, over, under, mode).map(|(over, under)| over / under).collect();
        bars.push(Bar { text: format!("{text}, {}", name(mode)), limit, figures });
    };
    ratio("drop / bare XDP_DROP", Some(1.6), DROP, DROP_FLOOR, Mode::Live);
    // The floor of a plain run is the loop around an empty program: no packet costs so little anywhere.
    ratio("drop / bare XDP_DROP", None, DROP, DROP_FLOOR, Mode::Plain);
    for rival in rivals::names() {
        ratio(&format!("drop / {rival}"), Some(1.0 / 3.0), DROP, rival, Mode::Live);
    }
    let [jpat, look_up, base] =
        [Program::Jpat, Program::BareLookup, Program::BarePass].map(|program| varied(program, MANY));
    for mode in Mode::ALL {
        ratio("grant / bare look-up among 1 M, both behind a random source", Some(1.2), &jpat, &look_up, mode);
    }
    for mode in Mode::ALL {
        let above = |row| pairs(figures, row, &base, mode).map(|(row, base)| row - base);
        let figures = above(&jpat).zip(above(&look_up)).map(|(jpat, look_up)| jpat / look_up).collect();
        let text = format!("the same, less what making the source costs, {}", name(mode));
        bars.push(Bar { text, limit: Some(1.2), figures });
    }
    for mode in Mode::ALL {
        let figures = pairs(figures, FLOW, PASS_FLOOR, mode).map(|(flow, floor)| flow - floor).collect();
        bars.push(Bar { text: format!("flow - bare XDP_PASS in ns, {}", name(mode)), limit: Some(60.0), figures });
    }
    for (mode, limit) in [(Mode::Plain, Some(700.0)), (Mode::Live, None)] {
        let figures = pairs(figures, BAD_TAG, DROP, mode).map(|(knock, drop)| knock - drop).collect();
        bars.push(Bar { text: format!("{BAD_TAG} - drop in ns, {}", name(mode)), limit, figures });
    }
    bars
}

fn pairs<'a>(figures: &'a Figures, a: &str, b: &str, mode: Mode) -> impl Iterator<Item = (f64, f64)> + use<'a> {
    figures.of(a, mode).iter().copied().zip(figures.of(b, mode).iter().copied())
}

const fn name(mode: Mode) -> &'static str {
    match mode {
        Mode::Plain => "plain",
        Mode::Live => "live",
    }
}
