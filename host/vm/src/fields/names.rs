//! Which names a list may have, in one word: most lookups are for a name that is not there.

/// For each name one of 64 bits, by its length and its ends. Several names share one: a bit that is not set says that a
/// name is not there, one that is set says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks(u64);

impl Marks {
    /// Without regard to case. The factors tell all fields that are common from those that concern one connection.
    #[inline]
    pub(super) const fn of(name: &[u8]) -> Marks {
        let [first, ..] = name else { return Marks(0) };
        let last = name[name.len() - 1] | 0x20;
        let hash = 49 * name.len() + 7 * (*first | 0x20) as usize + last as usize;
        Marks(1 << (hash % 64))
    }

    #[inline]
    pub(super) const fn with(self, other: Marks) -> Marks {
        Marks(self.0 | other.0)
    }

    /// Whether the two have a mark in common.
    #[inline]
    pub(super) const fn meets(self, other: Marks) -> bool {
        self.0 & other.0 != 0
    }
}

/// Names in lower case that are looked for together.
#[derive(Debug)]
pub struct Names {
    names: &'static [&'static str],
    marks: Marks,
}

impl Names {
    /// Of so many names.
    #[must_use]
    pub const fn new(names: &'static [&'static str]) -> Names {
        let (mut marks, mut at) = (Marks(0), 0);
        while at < names.len() {
            marks = marks.with(Marks::of(names[at].as_bytes()));
            at += 1;
        }
        Names { names, marks }
    }

    /// Whether a name in lower case is one of them.
    #[must_use]
    pub fn contains(&self, name: &[u8]) -> bool {
        self.marks.meets(Marks::of(name)) && self.names.iter().any(|own| own.as_bytes() == name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &'static str> {
        self.names.iter().copied()
    }

    pub(super) fn marks(&self) -> Marks {
        self.marks
    }
}
