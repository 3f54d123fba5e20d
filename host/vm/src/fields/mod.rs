//! Header fields and trailers: a short list in the order in which they came, all of whose text lies in one piece of memory.
//!
//! A head has a dozen fields, for which looking through a list is cheaper than hashing, and one piece of memory is cheaper
//! than one for each value. Names are in lower case (RFC 9113, 8.2.1), names and values are those of RFC 9110, 5.1 and 5.5:
//! whatever is in the list can be written to any connection.

mod known;
mod line;
mod map;
mod names;
mod read;
mod refused;
mod text;

use std::fmt;

pub(crate) use known::Known;
pub use names::Names;
pub use read::NoFields;
pub use refused::Refused;

use line::{BESIDE, BETWEEN, END, Field, Outline};
use names::Marks;
use text::{is_value, lower};

/// Longest name; [`HeaderName`](http::HeaderName) takes no longer one.
const MAX_NAME: usize = u16::MAX as usize;
/// Text of fields that are gone stays until there is this much more of it than of others.
const WASTE: usize = 1 << 10;
/// What others add to a head: so many fields, of so many bytes, need no more memory.
const SPARE: (usize, usize) = (8, 256);

/// Fields in their order. Names are looked up without regard to case.
#[derive(Clone, Default)]
pub struct Fields {
    /// Their lines as in a head of HTTP/1, so that they can be written as they are.
    text: Vec<u8>,
    list: Vec<Field>,
    /// Bytes of the names and values in the list.
    bytes: usize,
    /// Of all names that are in the list, and maybe of some that were.
    marks: Marks,
}

impl Fields {
    /// Without fields, and with room for so many, and for so many bytes of their names and values.
    pub fn with_capacity(fields: usize, bytes: usize) -> Fields {
        let text = Vec::with_capacity(bytes + fields * BESIDE);
        Fields { text, list: Vec::with_capacity(fields), ..Fields::default() }
    }

    /// Adds a field of ours at the end: a name in lower case, and a value that is known to be one. Neither is checked again.
    ///
    /// # Errors
    /// There is too much text; nothing has changed then.
    pub fn append_own(&mut self, name: &'static str, value: &[u8]) -> Result<(), Refused> {
        debug_assert!(is_value(value), "{value:?}");
        self.tidy_if_wasteful();
        let field = Field::at(self.text.len(), name.as_bytes(), value)?;
        self.text.reserve(field.length());
        self.copy(name.as_bytes(), value);
        self.add(field, name.as_bytes());
        Ok(())
    }

    /// Writes a line behind the others; says where.
    fn copy(&mut self, name: &[u8], value: &[u8]) -> usize {
        let at = self.text.len();
        self.text.extend_from_slice(name);
        self.end_line(value);
        at
    }

    /// Number of fields, repeated names included.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Bytes of all names and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.list.iter().map(|field| self.split(*field))
    }

    /// Writes the fields but for those of some names, as lines of a head of HTTP/1.
    pub fn write_lines(&self, out: &mut Vec<u8>, without: &Names) {
        let all = !self.marks.meets(without.marks());
        // Most lines lie one behind the other, and are written together.
        let mut run = 0..0;
        for field in &self.list {
            if !all && without.contains(self.split(*field).0) {
                continue;
            }
            let line = field.range();
            if line.start == run.end {
                run.end = line.end;
            } else {
                out.extend_from_slice(&self.text[run]);
                run = line;
            }
        }
        out.extend_from_slice(&self.text[run]);
    }

    /// Names, as often as they stand there.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.iter().map(|(name, _)| name)
    }

    /// The first value of a name.
    #[inline]
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        self.value_at(self.position(name.as_ref())?)
    }

    /// Where the first field of a name stands.
    pub(crate) fn position(&self, name: &[u8]) -> Option<usize> {
        self.find(name, 0)
    }

    /// The value of the field that stands there.
    pub(crate) fn value_at(&self, position: usize) -> Option<&[u8]> {
        Some(self.split(*self.list.get(position)?).1)
    }

    /// All values of a name.
    #[inline]
    pub fn get_all<'a>(
        &'a self,
        name: &'a (impl AsRef<[u8]> + ?Sized),
    ) -> impl Iterator<Item = &'a [u8]> {
        let name = name.as_ref();
        let outline = Outline::of(name);
        let named = move |field: &&Field| self.is_named(**field, outline, name);
        let maybe = match self.marks.meets(Marks::of(name)) {
            true => &self.list[..],
            false => &[],
        };
        maybe.iter().filter(named).map(|field| self.split(*field).1)
    }

    /// Whether there is a field of one of these names.
    pub fn contains_any(&self, names: &Names) -> bool {
        self.marks.meets(names.marks()) && names.iter().any(|name| self.contains(name))
    }

    /// Whether there is a field of this name.
    #[inline]
    pub fn contains(&self, name: impl AsRef<[u8]>) -> bool {
        self.find(name.as_ref(), 0).is_some()
    }

    /// Adds a field at the end.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub fn append(
        &mut self,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<(), Refused> {
        let (name, value) = (name.as_ref(), value.as_ref());
        let field = self.write(name, value)?;
        self.add(field, name);
        Ok(())
    }

    /// What follows a name.
    fn end_line(&mut self, value: &[u8]) {
        self.text.extend_from_slice(BETWEEN);
        self.text.extend_from_slice(value);
        self.text.extend_from_slice(END);
    }

    /// Puts a field in the place of the first one of its name, and removes the others; without any, adds it at the end.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub fn insert(
        &mut self,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<(), Refused> {
        let (name, value) = (name.as_ref(), value.as_ref());
        match self.find(name, 0) {
            None => self.append(name, value),
            Some(first) => self.replace(first, name, value),
        }
    }

    /// The name is that of the first field, in upper or lower case.
    fn replace(&mut self, first: usize, name: &[u8], value: &[u8]) -> Result<(), Refused> {
        if !is_value(value) {
            return Err(Refused::Value);
        }
        let old = self.list[first];
        if value.len() <= old.value as usize {
            let at = old.value_at();
            self.text[at..at + value.len()].copy_from_slice(value);
            self.text[at + value.len()..][..END.len()].copy_from_slice(END);
            self.list[first].value = value.len() as u32;
        } else {
            self.lengthen(first, name, value)?;
        }
        self.bytes = self.bytes + value.len() - old.value as usize;
        if let Some(second) = self.find(name, first + 1) {
            self.remove_from(second, name);
        }
        Ok(())
    }

    /// Writes a longer value of a field behind the others.
    fn lengthen(&mut self, first: usize, name: &[u8], value: &[u8]) -> Result<(), Refused> {
        self.tidy_if_wasteful();
        let old = self.list[first];
        let field = Field::at(self.text.len(), name, value)?;
        self.text.reserve(field.length());
        self.text.extend_from_within(old.at as usize..old.value_at());
        self.text.extend_from_slice(value);
        self.text.extend_from_slice(END);
        self.list[first] = field;
        Ok(())
    }

    /// Removes all fields of a name; says whether there were any.
    pub fn remove(&mut self, name: impl AsRef<[u8]>) -> bool {
        let name = name.as_ref();
        match self.find(name, 0) {
            Some(first) => {
                self.remove_from(first, name);
                true
            }
            None => false,
        }
    }

    /// Removes the fields that `keep` says no to.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let Fields { text, list, bytes, .. } = self;
        list.retain(|field| {
            let (name, value) = field.split(text);
            let kept = keep(name, value);
            if !kept {
                *bytes -= field.bytes();
            }
            kept
        });
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.text.clear();
        self.list.clear();
        self.bytes = 0;
        self.marks = Marks::default();
    }

    /// Writes the text of a field that is about to be added behind the others.
    fn write(&mut self, name: &[u8], value: &[u8]) -> Result<Field, Refused> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(Refused::Name);
        }
        self.tidy_if_wasteful();
        let at = self.text.len();
        let field = Field::at(at, name, value)?;
        self.text.reserve(field.length());
        self.text.extend_from_slice(name);
        let is_name = lower(&mut self.text[at..]);
        if !is_name || !is_value(value) {
            self.text.truncate(at);
            return Err(if is_name { Refused::Value } else { Refused::Name });
        }
        self.end_line(value);
        Ok(field)
    }

    #[inline]
    fn add(&mut self, field: Field, name: &[u8]) {
        self.bytes += field.bytes();
        self.marks = self.marks.with(Marks::of(name));
        self.list.push(field);
    }

    fn tidy_if_wasteful(&mut self) {
        let used = self.bytes + self.list.len() * BESIDE;
        if self.text.len() - used > used + WASTE {
            self.tidy();
        }
    }

    /// Leaves out the text of fields that are gone.
    #[cold]
    fn tidy(&mut self) {
        let before = self.text.len();
        self.text.reserve(self.bytes + self.list.len() * BESIDE);
        for field in &mut self.list {
            let at = self.text.len() - before;
            self.text.extend_from_within(field.range());
            field.at = at as u32;
        }
        self.text.drain(..before);
    }

    fn remove_from(&mut self, first: usize, name: &[u8]) {
        let (mut kept, outline) = (first, Outline::of(name));
        for at in first..self.list.len() {
            let field = self.list[at];
            if self.is_named(field, outline, name) {
                self.bytes -= field.bytes();
            } else {
                self.list[kept] = field;
                kept += 1;
            }
        }
        self.list.truncate(kept);
    }

    /// The first field of a name, from one on.
    #[inline]
    fn find(&self, name: &[u8], from: usize) -> Option<usize> {
        if !self.marks.meets(Marks::of(name)) {
            return None;
        }
        self.look_for(name, from)
    }

    fn look_for(&self, name: &[u8], from: usize) -> Option<usize> {
        let outline = Outline::of(name);
        let found = self.list[from..].iter().position(|field| self.is_named(*field, outline, name));
        found.map(|at| from + at)
    }

    #[inline]
    fn is_named(&self, field: Field, outline: Outline, name: &[u8]) -> bool {
        field.name == outline && self.is_same(field, name)
    }

    fn is_same(&self, field: Field, name: &[u8]) -> bool {
        let (own, _) = self.split(field);
        own == name || own.eq_ignore_ascii_case(name)
    }

    fn split(&self, field: Field) -> (&[u8], &[u8]) {
        field.split(&self.text)
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy;
        f.debug_map().entries(self.iter().map(|(name, value)| (text(name), text(value)))).finish()
    }
}

/// The same fields in the same order.
impl PartialEq for Fields {
    fn eq(&self, other: &Fields) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Fields {}
