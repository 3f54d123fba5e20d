//! Where a number stands on an axis, and which numbers are written beside it.

/// How an axis counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// From 0 in equal steps.
    Linear,
    /// In equal factors; only numbers above 0 have a place.
    Log,
}

/// An axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    kind: Kind,
    from: f64,
    to: f64,
    /// Written beside it, ascending.
    pub ticks: Vec<f64>,
}

/// Steps within a factor of ten.
const STEPS: [f64; 3] = [1.0, 2.0, 5.0];
/// At most so many steps on a linear axis.
const MOST: f64 = 6.0;

impl Scale {
    /// One that these numbers fit on, its ends round; `None` if none has a place.
    #[must_use]
    pub fn around(kind: Kind, numbers: &[f64]) -> Option<Scale> {
        let has_place =
            |number: &f64| number.is_finite() && (kind == Kind::Linear || *number > 0.0);
        let mut numbers: Vec<f64> = numbers.iter().copied().filter(has_place).collect();
        numbers.sort_by(f64::total_cmp);
        let (least, most) = (*numbers.first()?, *numbers.last()?);
        Some(match kind {
            Kind::Linear => Scale::linear(most),
            Kind::Log => Scale::log(least, most),
        })
    }

    fn linear(most: f64) -> Scale {
        let most = if most > 0.0 { most } else { 1.0 };
        let steps = (-9..12).flat_map(|power| STEPS.map(|step| step * 10f64.powi(power)));
        let step = steps.into_iter().find(|step| most / step <= MOST).unwrap_or(most);
        let count = (most / step).ceil();
        let ticks = (0..=count as u32).map(|number| f64::from(number) * step).collect();
        Scale { kind: Kind::Linear, from: 0.0, to: count * step, ticks }
    }

    fn log(least: f64, most: f64) -> Scale {
        let rounded = |number: f64| 1e-9f64.mul_add(number, number);
        let all: Vec<f64> =
            (-9..12).flat_map(|power| STEPS.map(|step| step * 10f64.powi(power))).collect();
        let from = all.iter().copied().rfind(|step| *step <= rounded(least)).unwrap_or(least);
        let to = all.iter().copied().find(|step| rounded(*step) >= most && *step > from);
        let to = to.unwrap_or(most);
        let decades = (to / from).log10() > 2.0;
        let whole = |step: f64| (step.log10() - step.log10().round()).abs() < 1e-9;
        let shown = |step: &f64| (from..=rounded(to)).contains(step) && (!decades || whole(*step));
        Scale { kind: Kind::Log, from, to, ticks: all.iter().copied().filter(shown).collect() }
    }

    /// From 0 at the beginning to 1 at the end; `None` for what has no place.
    #[must_use]
    pub fn place(&self, number: f64) -> Option<f64> {
        match self.kind {
            Kind::Linear => Some((number - self.from) / (self.to - self.from)),
            Kind::Log if number > 0.0 => {
                Some((number / self.from).log10() / (self.to / self.from).log10())
            }
            Kind::Log => None,
        }
    }
}
