//! The figures as text.

use super::{
    plan::{DROP_FLOOR, Mode, PASS_FLOOR, Plan},
    rounds::Figures,
};
use jpat_ebpf::verdict::XDP_DROP;

/// Median, least and greatest.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
}

impl Spread {
    /// Of these figures; `None` of none.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<_> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (least, greatest) = (*sorted.first()?, *sorted.last()?);
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or(greatest);
        Some(Self { median, least, greatest })
    }
}

/// Every row with its distance from its floor.
pub(crate) fn render(plan: &Plan<'_>, figures: &Figures) -> String {
    let mut text = format!("{:<44}{:>20} {:>7}   {:>20} {:>7}\n", "", "plain run", "above", "live frames", "above");
    for row in &plan.rows {
        let floor = if row.action == XDP_DROP { DROP_FLOOR } else { PASS_FLOOR };
        text += &format!("{:<44}", row.name);
        for mode in Mode::ALL {
            let own = figures.of(&row.name, mode);
            let above = own.iter().zip(figures.of(floor, mode)).map(|(own, floor)| own - floor);
            text += &format!("{:>20} ", Spread::of(own.iter().copied()).map_or_else(String::new, |ns| ns.to_string()));
            let above = Spread::of(above).filter(|_| row.name != floor && row.modes == Mode::ALL);
            text += &format!("{:>7}   ", above.map_or_else(String::new, |above| format!("{:+.0}", above.median)));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text += "above: over bare XDP_DROP where the row drops, over bare XDP_PASS where it passes; median of the rounds\n";
    text
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0} ({:.0} to {:.0})", self.median, self.least, self.greatest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_of_sorted_figures() {
        let spread = Spread::of([3.0, 1.0, 2.0]);
        assert_eq!(spread, Some(Spread { median: 2.0, least: 1.0, greatest: 3.0 }));
        assert_eq!(Spread::of([]), None);
    }
}
