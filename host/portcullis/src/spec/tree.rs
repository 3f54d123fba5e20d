//! Text → trees of nodes that keep their positions.
//!
//! JSON is read as YAML. Anchors are expanded within a bound, merge keys and foreign tags are refused, a key that stands
//! twice is a problem. A document that cannot be read hides no other document of the same file.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use crate::diagnose::Code;

const MAX_DEPTH: usize = 64;
const MAX_NODES: usize = 100_000;
const MAX_FLAWS: usize = 100;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub value: Value,
    pub at: At,
    /// Unique in its document once it is numbered.
    pub id: usize,
    /// Decodes as a dummy: its problem is known.
    pub poisoned: Cell<bool>,
    /// Fields that are known to be missing here.
    pub absent: RefCell<Vec<&'static str>>,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Scalar { text: String, plain: bool },
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: String,
    pub at: At,
    pub value: Node,
    /// Known to be unknown.
    pub reported: Cell<bool>,
}

/// Line and column from 1, width in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    pub line: usize,
    pub column: usize,
    pub width: usize,
}

impl At {
    /// Where every text begins.
    pub const START: At = At { line: 1, column: 1, width: 1 };
}

/// What is wrong with the text.
#[derive(Clone, Debug)]
pub(super) struct Flaw {
    pub code: Code,
    pub at: At,
    pub title: String,
    pub hint: String,
}

/// Every document that can be read, every flaw.
#[derive(Debug, Default)]
pub(super) struct Forest {
    pub documents: Vec<Node>,
    pub flaws: Vec<Flaw>,
    /// Whether a document is missing among `documents`.
    pub incomplete: bool,
}

impl Node {
    fn new(value: Value, at: At) -> Node {
        let (poisoned, absent) = (Cell::new(false), RefCell::default());
        Node { value, at, id: 0, poisoned, absent }
    }

    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if is_null(text))
    }

    /// The entry's value, if this is a mapping that has one.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Mapping(entries) => {
                entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
            }
            _ => None,
        }
    }

    /// The scalar's text.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    pub fn children(&self) -> Box<dyn Iterator<Item = &Node> + '_> {
        match &self.value {
            Value::Scalar { .. } => Box::new(std::iter::empty()),
            Value::Sequence(nodes) => Box::new(nodes.iter()),
            Value::Mapping(entries) => Box::new(entries.iter().map(|entry| &entry.value)),
        }
    }

    fn number(&mut self, next: &mut usize) {
        self.id = *next;
        *next += 1;
        match &mut self.value {
            Value::Scalar { .. } => {}
            Value::Sequence(nodes) => nodes.iter_mut().for_each(|node| node.number(next)),
            Value::Mapping(entries) => {
                entries.iter_mut().for_each(|entry| entry.value.number(next));
            }
        }
    }

    fn size(&self) -> usize {
        1 + self.children().map(Node::size).sum::<usize>()
    }

    fn depth(&self) -> usize {
        1 + self.children().map(Node::depth).max().unwrap_or_default()
    }
}

pub(super) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// Reads all documents of `text`.
pub(super) fn parse(text: &str) -> Forest {
    let mut forest = Forest::default();
    let mut budget = MAX_NODES;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut rest, mut lines) = (text, 0);
    loop {
        let began = Growing::new(&mut forest, &mut budget, lines).run(rest);
        // The documents after the one that broke off are read as if they stood alone.
        let Some((skipped, next)) = began.and_then(|line| next_document(rest, line - lines)) else {
            return forest;
        };
        (rest, lines) = (next, lines + skipped);
    }
}

/// The text from the first `---` below line `after` (from 1) on, and the number of lines before it.
fn next_document(text: &str, after: usize) -> Option<(usize, &str)> {
    let mut offset = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let marks =
            line.strip_prefix("---").is_some_and(|rest| rest.trim_start().len() < rest.len());
        if index >= after && (marks || line == "---") {
            return text.get(offset..).map(|rest| (index, rest));
        }
        offset += line.len();
    }
    None
}

/// A collection that is not complete yet.
struct Open {
    node: Node,
    anchor: usize,
    key: Option<(String, At)>,
    /// Keys so far, with their lines.
    keys: HashMap<String, usize>,
}

struct Growing<'a> {
    forest: &'a mut Forest,
    budget: &'a mut usize,
    lines: usize,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    /// The current document has a flaw that makes the rest of it meaningless.
    hopeless: bool,
}

impl<'a> Growing<'a> {
    fn new(forest: &'a mut Forest, budget: &'a mut usize, lines: usize) -> Growing<'a> {
        let (open, anchors) = (Vec::new(), HashMap::new());
        Growing { forest, budget, lines, open, anchors, root: None, hopeless: false }
    }

    /// The line at which the document began that broke off, if one did.
    fn run(mut self, text: &str) -> Option<usize> {
        let mut began = self.lines + 1;
        for event in Parser::new_from_str(text) {
            let (event, span) = match event {
                Ok(next) => next,
                Err(error) => {
                    self.syntax(&error);
                    return Some(began);
                }
            };
            if matches!(event, Event::DocumentStart(_)) {
                began = span.start.line() + self.lines;
            }
            self.take(event, self.at(span));
        }
        None
    }

    fn at(&self, span: Span) -> At {
        let one_line = span.start.line() == span.end.line();
        let width = if one_line { span.end.col().saturating_sub(span.start.col()) } else { 1 };
        At {
            line: span.start.line() + self.lines,
            column: span.start.col() + 1,
            width: width.max(1),
        }
    }

    fn take(&mut self, event: Event<'_>, at: At) {
        if self.hopeless && !matches!(event, Event::DocumentEnd) {
            return;
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain =
                    style == ScalarStyle::Plain && self.tag(tag.as_deref(), at) != Some("str");
                let text = text.into_owned();
                self.place(Node::new(Value::Scalar { text, plain }, at), anchor);
            }
            Event::SequenceStart(anchor, tag) => {
                self.tag(tag.as_deref(), at);
                self.begin(Value::Sequence(Vec::new()), anchor, at);
            }
            Event::MappingStart(anchor, tag) => {
                self.tag(tag.as_deref(), at);
                self.begin(Value::Mapping(Vec::new()), anchor, at);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Open { node, anchor, .. }) = self.open.pop() {
                    self.place(node, anchor);
                }
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => {
                    if !self.spend(node.size(), node.depth(), at) {
                        return;
                    }
                    self.attach(node);
                }
                None => {
                    self.flaw(Code::P0101, at, "an alias inside its own anchor", "write it out")
                }
            },
            Event::DocumentEnd => self.end(),
            _ => {}
        }
    }

    fn tag<'t>(&mut self, tag: Option<&'t saphyr_parser::Tag>, at: At) -> Option<&'t str> {
        let tag = tag?;
        if tag.is_yaml_core_schema() {
            return Some(&tag.suffix);
        }
        let title = format!("the tag `{tag}` is not supported");
        self.flaw(Code::P0110, at, title, "remove the tag");
        None
    }

    fn begin(&mut self, value: Value, anchor: usize, at: At) {
        let at = At { width: 1, ..at };
        if self.spend(1, 1, at) {
            let (node, keys) = (Node::new(value, at), HashMap::new());
            self.open.push(Open { node, anchor, key: None, keys });
        }
    }

    fn spend(&mut self, nodes: usize, depth: usize, at: At) -> bool {
        if self.open.len() + depth > MAX_DEPTH {
            let title = format!("nested deeper than {MAX_DEPTH} levels");
            self.give_up(title, at);
            return false;
        }
        match self.budget.checked_sub(nodes) {
            Some(left) => *self.budget = left,
            None => self.give_up(format!("more than {MAX_NODES} values, aliases expanded"), at),
        }
        !self.hopeless
    }

    fn give_up(&mut self, title: String, at: At) {
        self.flaw(Code::P0113, at, title, "split the file, or use fewer aliases of aliases");
        self.hopeless = true;
    }

    fn place(&mut self, node: Node, anchor: usize) {
        if matches!(node.value, Value::Scalar { .. }) && !self.spend(1, 0, node.at) {
            return;
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.attach(node);
    }

    fn attach(&mut self, node: Node) {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        match (&mut open.node.value, open.key.take()) {
            (Value::Mapping(_), None) => self.key(node),
            (Value::Mapping(entries), Some((key, at))) => {
                if entries.is_empty()
                    && at.line == open.node.at.line
                    && at.column == open.node.at.column
                {
                    open.node.at.width = at.width;
                }
                entries.push(Entry { key, at, value: node, reported: Cell::new(false) });
            }
            (Value::Sequence(nodes), _) => nodes.push(node),
            (Value::Scalar { .. }, _) => {}
        }
    }

    fn key(&mut self, node: Node) {
        let Value::Scalar { text, plain } = node.value else {
            self.flaw(Code::P0103, node.at, "a key has to be a text", "quote the key");
            self.hopeless = true;
            return;
        };
        let Some(open) = self.open.last_mut() else { return };
        open.key = Some((text.clone(), node.at));
        let twice = open.keys.get(&text).copied();
        open.keys.entry(text.clone()).or_insert(node.at.line);
        if let Some(line) = twice {
            let title = format!("the key `{text}` stands here twice");
            self.flaw(Code::P0112, node.at, title, format!("the first one is in line {line}"));
        }
        if plain && text == "<<" {
            let hint = "write the fields out; plain anchors and aliases are supported";
            self.flaw(Code::P0110, node.at, "merge keys are not supported", hint);
        }
    }

    fn end(&mut self) {
        self.open.clear();
        self.anchors.clear();
        let root = self.root.take();
        if std::mem::take(&mut self.hopeless) {
            self.forest.incomplete = true;
            return;
        }
        if let Some(mut root) = root.filter(|root| !root.is_null()) {
            root.number(&mut 0);
            self.forest.documents.push(root);
        }
    }

    fn syntax(&mut self, error: &ScanError) {
        let mark = error.marker();
        let at = At { line: mark.line().max(1) + self.lines, column: mark.col() + 1, width: 1 };
        let hint = if error
            .info()
            .split(|c: char| !c.is_alphabetic())
            .any(|word| matches!(word, "tab" | "tabs"))
        {
            "indent with blanks, not with tabs"
        } else {
            "look here and above for a bracket or quote that is not closed, or a wrong indentation"
        };
        self.flaw(Code::P0101, at, format!("this is not valid YAML: {}", error.info()), hint);
        self.forest.incomplete = true;
    }

    fn flaw(&mut self, code: Code, at: At, title: impl Into<String>, hint: impl Into<String>) {
        // What is not said any more must not pass for right either.
        self.hopeless |= self.forest.flaws.len() >= MAX_FLAWS;
        if !self.hopeless || code == Code::P0113 {
            self.forest.flaws.push(Flaw { code, at, title: title.into(), hint: hint.into() });
        }
    }
}
