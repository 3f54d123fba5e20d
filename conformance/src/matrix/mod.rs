//! The matrix: every host call and every callback of the three ABI versions, in every phase. A cell is a case of its own,
//! `matrix/PHASE/CALL`; what fills it is the guest `probe`.
//!
//! What a host answers stands in TABLE.md, not here.

mod calls;
mod fill;
mod phases;
mod stage;
mod trace;
mod traffic;

pub use calls::{REST, calls};
pub use fill::{Results, fill};
pub use phases::{PHASES, Phase, Reason, Way};

/// ABI versions, and the guest that speaks each.
pub const ABIS: [(&str, &str); 3] =
    [("0.2.1", "probe"), ("0.2.0", "probe-0-2-0"), ("0.1.0", "probe-0-1-0")];

/// One call in one phase.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// ABI version of the guest.
    pub abi: &'static str,
    /// Name of the phase.
    pub phase: &'static str,
    /// Name of the call.
    pub call: String,
}

impl Cell {
    /// Its case: `matrix/PHASE/CALL`, and `matrix-ABI/…` for older versions.
    #[must_use]
    pub fn name(&self) -> String {
        let Cell { abi, phase, call } = self;
        match *abi {
            "0.2.1" => format!("matrix/{phase}/{call}"),
            _ => format!("matrix-{abi}/{phase}/{call}"),
        }
    }

    /// As the probe is told it: `PHASE/CALL`.
    #[must_use]
    pub fn words(&self) -> String {
        format!("{}/{}", self.phase, self.call)
    }

    /// How it is filled, if it is.
    #[must_use]
    pub fn way(&self) -> Way {
        if self.call == REST {
            return Way::Never(Reason::AsNewest);
        }
        let phase = PHASES.iter().find(|phase| phase.name == self.phase);
        phase.map_or(Way::Exchange, |phase| phase.way)
    }

    /// The guest that fills it.
    #[must_use]
    pub fn guest(&self) -> &'static str {
        ABIS.iter().find(|(abi, _)| *abi == self.abi).map_or("probe", |(_, guest)| *guest)
    }
}

/// The guests that fill cells.
pub fn guests<'a>() -> impl Iterator<Item = &'a str> {
    ABIS.iter().map(|(_, guest)| *guest)
}

/// All cells, in the order of the table.
#[must_use]
pub fn cells() -> Vec<Cell> {
    let mut all = Vec::new();
    for (abi, _) in ABIS {
        for phase in PHASES {
            let calls = calls(abi, phase);
            all.extend(calls.into_iter().map(|call| Cell { abi, phase: phase.name, call }));
        }
    }
    all
}
