//! `matches` of routes.

use std::collections::{BTreeSet, HashSet};

use http::Method;
use portcullis_proxy::snapshot::{
    GrpcMatch, HeaderMatch, Match, PathMatch, QueryMatch, ValueMatch,
};

use super::desk::Desk;
use super::words;
use crate::diagnose::Code;
use crate::spec::Document;
use crate::spec::route::{self as written, MatchType, PathType};

/// The matches of a rule; everything if it has none.
pub(super) fn http(
    document: &Document,
    field: &str,
    matches: &[written::HttpMatch],
    desk: &mut Desk<'_>,
) -> Option<Vec<Match>> {
    if matches.is_empty() {
        let everything = PathMatch::Prefix("/".to_owned());
        return Some(vec![Match { path: Some(everything), ..Match::default() }]);
    }
    let mut compiled = Some(Vec::with_capacity(matches.len()));
    for (index, one) in matches.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let path = path(document, &format!("{field}.path"), one.path.as_ref(), desk);
        let headers = headers(document, &format!("{field}.headers"), &one.headers, desk);
        let query = query(document, &format!("{field}.queryParams"), &one.query_params, desk);
        compiled = match (compiled, path, headers, query) {
            (Some(mut all), Some(path), Some(headers), Some(query)) => {
                let method = one.method.map(method);
                all.push(Match { path: Some(path), grpc: None, method, headers, query });
                Some(all)
            }
            _ => None,
        };
    }
    compiled
}

/// The matches of a rule of a GRPCRoute; empty if it has none.
pub(super) fn grpc(
    document: &Document,
    field: &str,
    matches: &[written::GrpcMatch],
    desk: &mut Desk<'_>,
) -> Option<Vec<Match>> {
    let mut compiled = Some(Vec::with_capacity(matches.len()));
    for (index, one) in matches.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let headers = headers(document, &format!("{field}.headers"), &one.headers, desk);
        let method = grpc_method(document, &format!("{field}.method"), one.method.as_ref(), desk);
        compiled = match (compiled, headers, method) {
            (Some(mut all), Some(headers), Some(grpc)) => {
                all.push(Match { grpc: Some(grpc), headers, ..Match::default() });
                Some(all)
            }
            _ => None,
        };
    }
    compiled
}

fn path(
    document: &Document,
    field: &str,
    path: Option<&written::PathMatch>,
    desk: &mut Desk<'_>,
) -> Option<PathMatch> {
    let (r#type, value) = match path {
        Some(path) => (path.r#type, path.value.as_deref().unwrap_or("/")),
        None => (PathType::PathPrefix, "/"),
    };
    let field = format!("{field}.value");
    if r#type == PathType::RegularExpression {
        return regex(document, &field, value, desk).map(PathMatch::Regex);
    }
    match words::path(value) {
        Ok(value) if r#type == PathType::Exact => Some(PathMatch::Exact(value)),
        Ok(value) => Some(PathMatch::Prefix(value)),
        Err(hint) => {
            let title = format!("{value:?} is not a path");
            desk.refuse(document.problem(Code::P0111, &field, title).hint(hint))
        }
    }
}

fn regex(
    document: &Document,
    field: &str,
    text: &str,
    desk: &mut Desk<'_>,
) -> Option<regex::Regex> {
    words::regex(text)
        .map_err(|reason| {
            let title = "this regular expression cannot be used";
            let problem = document.problem(Code::P0111, field, title).because(reason);
            let hint = "the dialect is RE2's: no look-around, no back-references";
            desk.problems.push(problem.hint(hint));
        })
        .ok()
}

fn value(
    document: &Document,
    field: &str,
    (r#type, text): (MatchType, &str),
    desk: &mut Desk<'_>,
) -> Option<ValueMatch> {
    match r#type {
        MatchType::Exact => Some(ValueMatch::Exact(text.to_owned())),
        MatchType::RegularExpression => regex(document, field, text, desk).map(ValueMatch::Regex),
    }
}

/// Of a name that is repeated, the first counts.
fn headers(
    document: &Document,
    field: &str,
    matches: &[written::ValueMatch],
    desk: &mut Desk<'_>,
) -> Option<Vec<HeaderMatch>> {
    let (mut seen, mut compiled) = (HashSet::new(), Some(Vec::with_capacity(matches.len())));
    for (index, one) in matches.iter().enumerate() {
        let name = match words::matched_name(&one.name) {
            Ok(name) => name,
            Err(hint) => {
                let field = format!("{field}[{index}].name");
                let title = format!("{:?} is not the name of a header", one.name);
                desk.problems.push(document.problem(Code::P0111, &field, title).hint(hint));
                compiled = None;
                continue;
            }
        };
        let first = seen.insert(name.clone());
        let field = format!("{field}[{index}].value");
        match (value(document, &field, (one.r#type, &one.value), desk), &mut compiled) {
            (Some(value), Some(all)) if first => all.push(HeaderMatch { name, value }),
            (Some(_), _) => {}
            (None, _) => compiled = None,
        }
    }
    compiled
}

/// Of a name that is repeated, the first counts.
fn query(
    document: &Document,
    field: &str,
    matches: &[written::ValueMatch],
    desk: &mut Desk<'_>,
) -> Option<Vec<QueryMatch>> {
    let (mut seen, mut compiled) = (BTreeSet::new(), Some(Vec::with_capacity(matches.len())));
    for (index, one) in matches.iter().enumerate() {
        let first = seen.insert(one.name.as_str());
        let field = format!("{field}[{index}].value");
        match (value(document, &field, (one.r#type, &one.value), desk), &mut compiled) {
            (Some(value), Some(all)) if first => {
                all.push(QueryMatch { name: one.name.clone(), value });
            }
            (Some(_), _) => {}
            (None, _) => compiled = None,
        }
    }
    compiled
}

fn grpc_method(
    document: &Document,
    field: &str,
    method: Option<&written::MethodMatch>,
    desk: &mut Desk<'_>,
) -> Option<GrpcMatch> {
    let Some(written) = method else { return Some(GrpcMatch { service: None, method: None }) };
    let mut part = |name: &str, text: &Option<String>| match text.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => value(document, &format!("{field}.{name}"), (written.r#type, text), desk)
            .map(Some)
            .ok_or(()),
    };
    let service = part("service", &written.service);
    let method = part("method", &written.method);
    Some(GrpcMatch { service: service.ok()?, method: method.ok()? })
}

fn method(method: written::HttpMethod) -> Method {
    match method {
        written::HttpMethod::Get => Method::GET,
        written::HttpMethod::Head => Method::HEAD,
        written::HttpMethod::Post => Method::POST,
        written::HttpMethod::Put => Method::PUT,
        written::HttpMethod::Delete => Method::DELETE,
        written::HttpMethod::Connect => Method::CONNECT,
        written::HttpMethod::Options => Method::OPTIONS,
        written::HttpMethod::Trace => Method::TRACE,
        written::HttpMethod::Patch => Method::PATCH,
    }
}
