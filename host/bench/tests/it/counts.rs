//! When counts agree, and when a response is right.

use bytes::Bytes;
use http::HeaderMap;
use portcullis_bench::net::Answer;
use portcullis_bench::proof::{Counts, Expected, agree, every};

const ALIKE: Counts = Counts {
    clients: 100_000,
    proxy: 100_000,
    upstream: 200_000,
    upstream_each: 2,
    filters: Some(500_000),
    filters_each: 5,
    in_flight: 64,
};

fn refusal(counts: Counts) -> String {
    agree(&counts).unwrap_err().to_string()
}

#[test]
fn a_thousandth_and_what_was_under_way_may_differ() {
    agree(&ALIKE).unwrap();
    agree(&Counts { proxy: 100_164, upstream: 199_672, filters: Some(500_980), ..ALIKE }).unwrap();
    agree(&Counts { filters: None, ..ALIKE }).unwrap();
}

#[test]
fn who_counted_more_or_less_is_named_with_both_numbers() {
    let said = refusal(Counts { proxy: 100_165, ..ALIKE });
    assert!(said.contains("the proxy") && said.contains("100165") && said.contains("100000"));
    let said = refusal(Counts { upstream: 199_600, ..ALIKE });
    assert!(said.contains("the upstream") && said.contains("199600") && said.contains("200000"));
    let said = refusal(Counts { filters: Some(400_000), ..ALIKE });
    assert!(said.contains("the filters") && said.contains("400000") && said.contains("500000"));
}

fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &'static str) -> Answer {
    let headers =
        headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    Answer { status, headers: HeaderMap::from_iter(headers), body: Bytes::from(body) }
}

#[test]
fn a_response_is_compared_in_full() {
    let right = Expected { body: Bytes::from("hello"), marks: 2 };
    let headers = [
        ("content-type", "text/plain"),
        ("x-bench-1", "response"),
        ("x-bench-2", "response"),
        ("x-seen", "request request"),
    ];
    right.compare(&answer(200, &headers, "hello")).unwrap();
    let said = |answer: Answer| right.compare(&answer).unwrap_err().to_string();
    assert!(said(answer(503, &headers, "hello")).contains("503"));
    assert!(said(answer(200, &headers, "hellO")).contains("Some(4)"));
    assert!(said(answer(200, &headers[..2], "hello")).contains("x-bench-2"));
    assert!(said(answer(200, &headers[..3], "hello")).contains("the upstream saw"));
    assert!(said(answer(200, &headers[1..], "hello")).contains("content-type"));
}

#[test]
fn one_in_a_thousand_requests_is_a_probe_and_there_are_always_some() {
    assert_eq!(every(50_000.0, 4).as_millis(), 20);
    assert_eq!(every(100.0, 4).as_millis(), 500);
}
