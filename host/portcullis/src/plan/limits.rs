//! What a filter may use: time, memory, and instances.

use std::ops::RangeInclusive;

use portcullis_proxy::snapshot::{InstanceLimits, Isolation};
use portcullis_vm::Limits;

use super::desk::Desk;
use crate::diagnose::Code;
use crate::spec::Document;
use crate::spec::filter::{self as written, FilterLimits, WasmFilterSpec};

/// Each instance reserves address space, which ends before memory does.
const INSTANCES: RangeInclusive<u32> = 1..=1000;

/// What one instance may use.
pub(super) fn of_plugin(
    document: &Document,
    given: &FilterLimits,
    desk: &mut Desk<'_>,
) -> Option<Limits> {
    let standard = Limits::default();
    let times = [("callback", given.callback), ("start", given.start)];
    let mut right = true;
    for (name, time) in times {
        if time.is_some_and(|time| time.nonzero().is_none()) {
            let field = format!("spec.limits.{name}");
            let problem = document.problem(Code::P0111, &field, "a filter needs some time to run");
            desk.problems.push(problem.hint("leave it out for the default"));
            right = false;
        }
    }
    right.then_some(Limits {
        callback: given.callback.map_or(standard.callback, |time| time.get()),
        start: given.start.map_or(standard.start, |time| time.get()),
        memory: given.memory.map_or(standard.memory, |size| size.get()),
        body: given.body.map_or(standard.body, |size| size.get()),
    })
}

/// Who shares an instance, and how many there may be.
pub(super) fn isolation(
    document: &Document,
    spec: &WasmFilterSpec,
    desk: &mut Desk<'_>,
) -> Option<Isolation> {
    let FilterLimits { instances, wait, .. } = spec.limits;
    if spec.isolation == written::Isolation::Shared {
        let unused = [("instances", instances.is_some()), ("wait", wait.is_some())];
        for (name, _) in unused.iter().filter(|(_, given)| *given) {
            let field = format!("spec.limits.{name}");
            let title = "this means nothing without `isolation: EXCLUSIVE`";
            let problem = document.problem(Code::P0111, &field, title);
            desk.problems.push(problem.hint("remove it, or add that").warning());
        }
        return Some(Isolation::Shared);
    }
    let standard = InstanceLimits::default();
    if let Some(count) = instances.filter(|count| !INSTANCES.contains(count)) {
        let title = format!("{count} is not between {} and {}", INSTANCES.start(), INSTANCES.end());
        let problem = document.problem(Code::P0111, "spec.limits.instances", title);
        let hint = format!("leave it out for {}; it counts for each worker", standard.instances);
        desk.problems.push(problem.hint(hint));
        return None;
    }
    Some(Isolation::Exclusive(InstanceLimits {
        instances: instances.map_or(standard.instances, |count| count as usize),
        wait: wait.map_or(standard.wait, |time| time.get()),
    }))
}
