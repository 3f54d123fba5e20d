//! The expressions that an instance keeps, by token.

use std::collections::BTreeMap;

use crate::expression::Expression;

/// Most bytes of text that an instance keeps compiled.
const MAX_TEXT: usize = 64 << 10;
/// Most expressions.
const MAX_COUNT: usize = 256;

/// Expressions by token; tokens count from 0.
#[derive(Default)]
pub(crate) struct Expressions {
    kept: BTreeMap<u32, (usize, Expression)>,
    text: usize,
    next: u32,
}

impl Expressions {
    /// Keeps an expression; `None` if that is too much.
    pub(crate) fn add(&mut self, text: &str, expression: Expression) -> Option<u32> {
        if self.kept.len() >= MAX_COUNT || self.text + text.len() > MAX_TEXT {
            return None;
        }
        while self.kept.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let token = self.next;
        self.next = self.next.wrapping_add(1);
        self.text += text.len();
        self.kept.insert(token, (text.len(), expression));
        Some(token)
    }

    pub(crate) fn get(&self, token: u32) -> Option<&Expression> {
        self.kept.get(&token).map(|kept| &kept.1)
    }

    pub(crate) fn remove(&mut self, token: u32) {
        if let Some((length, _)) = self.kept.remove(&token) {
            self.text -= length;
        }
    }
}
