//! `filters` of rules and of backend references.

use http::{HeaderName, HeaderValue, StatusCode};
use portcullis_proxy::snapshot::{HeaderModifier, PathModifier, Redirect, Rewrite, RouteFilter};

use super::catalogue::Catalogue;
use super::desk::Desk;
use super::filter::Filters;
use super::words;
use crate::diagnose::{Code, Problem};
use crate::spec::filter::Attach;
use crate::spec::route::{self as written, FilterType, PathModifierType};
use crate::spec::{Document, Object};

/// Where filters stand, which decides what they may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Of a rule whose matches are all path prefixes.
    PrefixRule,
    /// Of a rule with other matches, for which there is no prefix to replace.
    Rule,
    /// Of a backend reference.
    BackendRef,
}

/// Compiles lists of filters.
pub(super) struct Edits<'a> {
    pub document: &'a Document,
    pub catalogue: &'a Catalogue,
    pub filters: &'a Filters,
}

/// What became of one filter.
enum Made {
    Filter(RouteFilter),
    /// The rule answers 500, for this reason.
    Broken(String),
    /// The document is refused.
    Wrong,
}

impl Edits<'_> {
    /// The filters, and why the rule is broken if it is; `None`: the document is refused.
    pub fn compile(
        &self,
        field: &str,
        filters: &[written::Filter],
        place: Place,
        desk: &mut Desk<'_>,
    ) -> Option<(Vec<RouteFilter>, Option<String>)> {
        let (mut broken, mut right) = (None, true);
        let mut compiled = Vec::with_capacity(filters.len());
        for (index, filter) in filters.iter().enumerate() {
            let at = format!("{field}[{index}]");
            match self.one(&at, filter, place, desk) {
                Made::Filter(filter) => compiled.push(filter),
                Made::Broken(reason) => broken = broken.or(Some(reason)),
                Made::Wrong => right = false,
            }
        }
        let fits = self.fits(field, filters, desk);
        (right && fits).then_some((compiled, broken))
    }

    /// At most one filter of each kind that edits, and no redirect beside a rewrite.
    fn fits(&self, field: &str, filters: &[written::Filter], desk: &mut Desk<'_>) -> bool {
        let mut right = true;
        for (index, filter) in filters.iter().enumerate() {
            let repeatable =
                matches!(filter.r#type, FilterType::ExtensionRef | FilterType::RequestMirror);
            let earlier = || filters.iter().take(index).map(|other| other.r#type);
            let at = format!("{field}[{index}].type");
            let title = if !repeatable && earlier().any(|kind| kind == filter.r#type) {
                "a list of filters has at most one of this type"
            } else if matches!(
                (filter.r#type, earlier().find(|kind| is_turn(*kind))),
                (FilterType::RequestRedirect, Some(FilterType::UrlRewrite))
                    | (FilterType::UrlRewrite, Some(FilterType::RequestRedirect))
            ) {
                "RequestRedirect and URLRewrite exclude each other"
            } else {
                continue;
            };
            let problem = self.document.problem(Code::P0111, &at, title);
            desk.problems.push(problem.hint("keep one of the two"));
            right = false;
        }
        right
    }

    fn one(
        &self,
        field: &str,
        filter: &written::Filter,
        place: Place,
        desk: &mut Desk<'_>,
    ) -> Made {
        let made = match filter.r#type {
            FilterType::RequestHeaderModifier => {
                let at = format!("{field}.requestHeaderModifier");
                self.given(&at, filter.request_header_modifier.as_ref(), desk)
                    .and_then(|edits| self.headers(&at, edits, desk))
                    .map(RouteFilter::RequestHeaders)
            }
            FilterType::ResponseHeaderModifier => {
                let at = format!("{field}.responseHeaderModifier");
                self.given(&at, filter.response_header_modifier.as_ref(), desk)
                    .and_then(|edits| self.headers(&at, edits, desk))
                    .map(RouteFilter::ResponseHeaders)
            }
            FilterType::RequestRedirect if place != Place::BackendRef => {
                let at = format!("{field}.requestRedirect");
                self.given(&at, filter.request_redirect.as_ref(), desk)
                    .and_then(|redirect| self.redirect(&at, redirect, place, desk))
                    .map(RouteFilter::Redirect)
            }
            FilterType::UrlRewrite => {
                let at = format!("{field}.urlRewrite");
                self.given(&at, filter.url_rewrite.as_ref(), desk)
                    .and_then(|rewrite| self.rewrite(&at, rewrite, place, desk))
                    .map(RouteFilter::Rewrite)
            }
            FilterType::ExtensionRef if place != Place::BackendRef => {
                let at = format!("{field}.extensionRef");
                return match self.given(&at, filter.extension_ref.as_ref(), desk) {
                    Some(reference) => self.extension(&at, reference, desk),
                    None => Made::Wrong,
                };
            }
            unsupported => return self.unsupported(field, unsupported, desk),
        };
        made.map_or(Made::Wrong, Made::Filter)
    }

    fn given<'f, T>(&self, at: &str, value: Option<&'f T>, desk: &mut Desk<'_>) -> Option<&'f T> {
        let name = at.rsplit_once('.').map_or(at, |(_, name)| name);
        value.or_else(|| {
            let title = format!("the field `{name}` is missing");
            let problem = self.document.problem(Code::P0108, at, title);
            desk.refuse(problem.hint("a filter carries the field that its type names"))
        })
    }

    fn unsupported(&self, field: &str, kind: FilterType, desk: &mut Desk<'_>) -> Made {
        let name = match kind {
            FilterType::RequestMirror => "RequestMirror",
            FilterType::Cors => "CORS",
            FilterType::ExternalAuth => "ExternalAuth",
            FilterType::RequestRedirect => "RequestRedirect of a backend",
            FilterType::ExtensionRef => "ExtensionRef of a backend",
            _ => "this filter",
        };
        let title = format!("{name} is not supported; this rule answers 500");
        let problem = self.document.problem(Code::P0110, &format!("{field}.type"), title);
        let hint = "remove it, or use a WasmFilter through an ExtensionRef of the rule";
        desk.problems.push(problem.warning().hint(hint));
        Made::Broken(format!("{name} is not supported"))
    }

    fn wrong<T>(
        &self,
        field: &str,
        title: String,
        hint: impl Into<String>,
        desk: &mut Desk<'_>,
    ) -> Option<T> {
        desk.refuse(self.document.problem(Code::P0111, field, title).hint(hint))
    }

    fn headers(
        &self,
        field: &str,
        edits: &written::HeaderModifier,
        desk: &mut Desk<'_>,
    ) -> Option<HeaderModifier> {
        let mut pairs = |list: &str, headers: &[written::Header]| {
            let mut compiled = Some(Vec::with_capacity(headers.len()));
            for (index, header) in headers.iter().enumerate() {
                let at = format!("{field}.{list}[{index}]");
                let name = self.header_name(&format!("{at}.name"), &header.name, desk);
                let value = self.header_value(&format!("{at}.value"), &header.value, desk);
                compiled = compiled.zip(name.zip(value)).map(|(mut all, pair)| {
                    all.push(pair);
                    all
                });
            }
            compiled
        };
        let (set, add) = (pairs("set", &edits.set), pairs("add", &edits.add));
        let remove: Vec<Option<HeaderName>> = (edits.remove.iter().enumerate())
            .map(|(index, name)| self.header_name(&format!("{field}.remove[{index}]"), name, desk))
            .collect();
        let remove = remove.into_iter().collect::<Option<_>>();
        Some(HeaderModifier { set: set?, add: add?, remove: remove? })
    }

    fn header_name(&self, field: &str, name: &str, desk: &mut Desk<'_>) -> Option<HeaderName> {
        match words::header_name(name) {
            Ok(name) => Some(name),
            Err(hint) => {
                self.wrong(field, format!("{name:?} is not the name of a header"), hint, desk)
            }
        }
    }

    fn header_value(&self, field: &str, value: &str, desk: &mut Desk<'_>) -> Option<HeaderValue> {
        match words::header_value(value) {
            Ok(value) => Some(value),
            Err(hint) => {
                self.wrong(field, format!("{value:?} is not the value of a header"), hint, desk)
            }
        }
    }

    fn hostname(
        &self,
        field: &str,
        name: Option<&String>,
        desk: &mut Desk<'_>,
    ) -> Result<Option<String>, ()> {
        let Some(name) = name else { return Ok(None) };
        if words::is_host(name) {
            return Ok(Some(name.to_ascii_lowercase()));
        }
        let title = format!("{name:?} is not a host name");
        let hint = "a DNS name without port and wildcard";
        self.wrong(&format!("{field}.hostname"), title, hint, desk).ok_or(())
    }

    fn path(
        &self,
        field: &str,
        path: Option<&written::PathModifier>,
        place: Place,
        desk: &mut Desk<'_>,
    ) -> Result<Option<PathModifier>, ()> {
        let Some(path) = path else { return Ok(None) };
        let field = format!("{field}.path");
        match path.r#type {
            PathModifierType::ReplaceFullPath => {
                let at = format!("{field}.replaceFullPath");
                let full = self.given(&at, path.replace_full_path.as_ref(), desk).ok_or(())?;
                Ok(Some(PathModifier::Full(self.new_path(&at, full, desk).ok_or(())?)))
            }
            PathModifierType::ReplacePrefixMatch => {
                let at = format!("{field}.replacePrefixMatch");
                let prefix = self.given(&at, path.replace_prefix_match.as_ref(), desk).ok_or(())?;
                if place == Place::Rule {
                    let title = "ReplacePrefixMatch needs a rule that matches path prefixes only";
                    let hint = "use matches of type PathPrefix, or ReplaceFullPath";
                    let at = format!("{field}.type");
                    return self.wrong(&at, title.to_owned(), hint, desk).ok_or(());
                }
                if prefix.is_empty() {
                    return Ok(Some(PathModifier::Prefix(String::new())));
                }
                Ok(Some(PathModifier::Prefix(self.new_path(&at, prefix, desk).ok_or(())?)))
            }
        }
    }

    fn new_path(&self, field: &str, path: &str, desk: &mut Desk<'_>) -> Option<String> {
        match words::new_path(path) {
            Ok(path) => Some(path),
            Err(hint) => self.wrong(field, format!("{path:?} cannot be a path"), hint, desk),
        }
    }

    fn redirect(
        &self,
        field: &str,
        redirect: &written::Redirect,
        place: Place,
        desk: &mut Desk<'_>,
    ) -> Option<Redirect> {
        let code = redirect.status_code.unwrap_or(302);
        let status = StatusCode::from_u16(code)
            .ok()
            .filter(|status| matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308))
            .or_else(|| {
                let title = format!("{code} is not the status of a redirect");
                let hint = "use 301, 302, 303, 307 or 308";
                self.wrong(&format!("{field}.statusCode"), title, hint, desk)
            });
        if redirect.port == Some(0) {
            let title = "nobody can be sent to port 0".to_owned();
            let hint = "use a port from 1, or leave it out";
            return self.wrong(&format!("{field}.port"), title, hint, desk);
        }
        let hostname = self.hostname(field, redirect.hostname.as_ref(), desk);
        let path = self.path(field, redirect.path.as_ref(), place, desk);
        let scheme = redirect.scheme.map(|scheme| match scheme {
            written::Scheme::Http => "http".to_owned(),
            written::Scheme::Https => "https".to_owned(),
        });
        let (hostname, path) = (hostname.ok()?, path.ok()?);
        Some(Redirect { scheme, hostname, path, port: redirect.port, status: status? })
    }

    fn rewrite(
        &self,
        field: &str,
        rewrite: &written::Rewrite,
        place: Place,
        desk: &mut Desk<'_>,
    ) -> Option<Rewrite> {
        let hostname = self.hostname(field, rewrite.hostname.as_ref(), desk);
        let path = self.path(field, rewrite.path.as_ref(), place, desk);
        Some(Rewrite { hostname: hostname.ok()?, path: path.ok()? })
    }

    /// A WasmFilter with `attach: ROUTE` in the route's own namespace.
    fn extension(
        &self,
        field: &str,
        reference: &written::ExtensionRef,
        desk: &mut Desk<'_>,
    ) -> Made {
        let key = format!("{}/{}", self.document.namespace, reference.name);
        let mut dangling = |problem: Problem| {
            let reason = problem.title.clone();
            desk.problems.push(problem);
            Made::Broken(reason)
        };
        if (reference.group.as_str(), reference.kind.as_str()) != ("portcullis.dev", "WasmFilter") {
            let title =
                format!("{}/{} is no filter that runs here", reference.group, reference.kind);
            let problem = self.document.problem(Code::P0105, &format!("{field}.kind"), title);
            let hint = "use group: portcullis.dev, kind: WasmFilter";
            return dangling(problem.reference().hint(hint));
        }
        let at = format!("{field}.name");
        let wanted = ("WasmFilter", self.document.namespace.as_str(), reference.name.as_str());
        let Some(target) = self.catalogue.get(wanted.0, wanted.1, wanted.2) else {
            let problem = self.catalogue.dangling(self.document, &at, wanted, desk);
            desk.problems.push(problem);
            return Made::Broken(format!("there is no WasmFilter {key}"));
        };
        let listener = match &target.object {
            Some(Object::WasmFilter(spec)) => spec.attach == Attach::Listener,
            Some(_) => true,
            None => false,
        };
        if listener {
            let title = format!("{} runs on listeners, a route cannot name it", target.title());
            let problem = self.document.problem(Code::P0105, &at, title).reference();
            return dangling(problem.hint(format!("put `attach: ROUTE` into {}", target.title())));
        }
        match self.filters.get(&key) {
            Some(index) => Made::Filter(RouteFilter::Wasm(index)),
            None => Made::Broken(format!("WasmFilter {key} cannot be used")),
        }
    }
}

fn is_turn(kind: FilterType) -> bool {
    matches!(kind, FilterType::RequestRedirect | FilterType::UrlRewrite)
}
