//! What others can see of the proxy: metrics text, queues of logs, and when a filter is suspended.

use std::fs;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use http::StatusCode;
use portcullis_proxy::facts::Flags;
use portcullis_proxy::observe::{
    Capacity, Counter, Entry, Family, FilterHealth, Gauge, Guests, Histogram, Registry,
    RequestCounts, Sink, Target, rfc3339,
};
use portcullis_vm::{Death, MetricKind, TrapReason};

const SEEN: Family<Counter, 2> = Family::new("seen_total", "What was\nseen.", ["who", "what"]);
const OPEN: Family<Gauge, 1> = Family::new("open", "Open now.", ["who"]);
const TOOK: Family<Histogram, 1> = Family::new("took_seconds", "How long it took.", ["who"]);
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn gauges_that_nobody_holds_go_without_anybody_reading_the_metrics() {
    let registry = Registry::default();
    let kept = registry.series(&OPEN, ["kept"]);
    for generation in 0..100 {
        drop(registry.series(&OPEN, [&generation.to_string()]));
        assert!(registry.sweep() <= 2, "{}", registry.render());
    }
    kept.add(1);
    assert!(registry.render().contains("open{who=\"kept\"} 1\n"));
}

#[test]
fn metrics_are_prometheus_text_in_a_stable_order() {
    let registry = Registry::default();
    registry.series(&SEEN, ["b", "quote \" slash \\ line\n"]).add(2);
    registry.series(&SEEN, ["a", ""]).increment();
    let gauge = registry.series(&OPEN, ["a"]);
    gauge.add(-3);
    assert_eq!(
        registry.render(),
        concat!(
            "# HELP open Open now.\n",
            "# TYPE open gauge\n",
            "open{who=\"a\"} -3\n",
            "# HELP seen_total What was\\nseen.\n",
            "# TYPE seen_total counter\n",
            "seen_total{who=\"a\",what=\"\"} 1\n",
            "seen_total{who=\"b\",what=\"quote \\\" slash \\\\ line\\n\"} 2\n",
        )
    );
}

#[test]
fn a_histogram_is_cumulative_and_in_seconds() {
    let registry = Registry::default();
    let histogram = registry.series(&TOOK, ["a"]);
    for milliseconds in [0, 1, 3, 70_000] {
        histogram.observe(Duration::from_millis(milliseconds));
    }
    let text = registry.render();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[..7],
        [
            "# HELP took_seconds How long it took.",
            "# TYPE took_seconds histogram",
            "took_seconds_bucket{who=\"a\",le=\"0.0005\"} 1",
            "took_seconds_bucket{who=\"a\",le=\"0.001\"} 2",
            "took_seconds_bucket{who=\"a\",le=\"0.0025\"} 2",
            "took_seconds_bucket{who=\"a\",le=\"0.005\"} 3",
            "took_seconds_bucket{who=\"a\",le=\"0.01\"} 3",
        ]
    );
    assert_eq!(
        lines[17..],
        [
            "took_seconds_bucket{who=\"a\",le=\"60\"} 3",
            "took_seconds_bucket{who=\"a\",le=\"+Inf\"} 4",
            "took_seconds_sum{who=\"a\"} 70.004",
            "took_seconds_count{who=\"a\"} 4",
        ]
    );
}

#[test]
fn the_same_labels_give_the_same_counter_on_every_thread() {
    let registry = Registry::default();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    registry.series(&SEEN, ["a", "b"]).increment();
                }
            });
        }
    });
    assert_eq!(registry.series(&SEEN, ["a", "b"]).get(), 4000);
}

#[test]
fn a_gauge_disappears_with_its_last_handle() {
    let registry = Registry::default();
    let first = registry.series(&OPEN, ["a"]);
    let second = registry.series(&OPEN, ["a"]);
    first.add(1);
    drop(first);
    assert!(registry.render().contains("open{who=\"a\"} 1\n"));
    drop(second);
    assert_eq!(registry.render(), "");
    let third = registry.series(&OPEN, ["a"]);
    assert_eq!(third.get(), 0);
}

#[test]
fn what_is_forgotten_is_gone_and_nothing_else() {
    let registry = Registry::default();
    for (who, what) in [("a", "x"), ("b", "x"), ("x", "a"), ("a\",what=\"x", "y")] {
        registry.series(&SEEN, [who, what]).increment();
    }
    registry.forget("what", "x");
    let text = registry.render();
    assert!(!text.contains("what=\"x\"}"), "{text}");
    assert_eq!(text.lines().count(), 4, "{text}");
}

#[test]
fn exchanges_are_counted_by_listener_route_backend_code_and_flags() {
    let registry = Arc::new(Registry::default());
    let counts = RequestCounts::new(Arc::clone(&registry), "web".into(), "ns/r/0".into());
    let backend: Arc<str> = "ns/b".into();
    for status in [StatusCode::OK, StatusCode::OK, StatusCode::BAD_GATEWAY] {
        counts.record(Some(&backend), Some(status), Flags::none(), Duration::ZERO);
    }
    counts.record(None, None, Flags::DOWNSTREAM_TERMINATION, Duration::ZERO);
    let text = registry.render();
    let requests: Vec<_> =
        text.lines().filter(|line| line.starts_with("portcullis_requests_total")).collect();
    let prefix = "portcullis_requests_total{listener=\"web\",route=\"ns/r/0\",backend=";
    assert_eq!(
        requests,
        [
            format!("{prefix}\"\",code=\"0\",flags=\"DC\"}} 1"),
            format!("{prefix}\"ns/b\",code=\"200\",flags=\"-\"}} 2"),
            format!("{prefix}\"ns/b\",code=\"502\",flags=\"-\"}} 1"),
        ]
    );
    assert!(text.contains("_count{listener=\"web\",route=\"ns/r/0\"} 4\n"), "{text}");
}

#[test]
fn guest_metrics_keep_their_names_and_kinds_apart() {
    let guests = Guests::new(Arc::default());
    let (one, two): (Arc<str>, Arc<str>) = ("ns/one".into(), "ns/two".into());
    let hits = guests.define(&one, MetricKind::Counter, "cache.hits");
    assert_eq!(guests.define(&one, MetricKind::Counter, "cache.hits"), hits);
    assert_eq!(guests.define(&one, MetricKind::Counter, "cache-hits"), hits);
    guests.increment(hits, 2);
    guests.increment(hits, -1);
    guests.record(hits, 3);
    let level = guests.define(&two, MetricKind::Gauge, "cache.hits");
    guests.record(level, 7);
    guests.increment(level, -9);
    guests.increment(level, 4);
    let sizes = guests.define(&two, MetricKind::Histogram, "sizes");
    for value in [0, 1, 2, 3, u64::from(u32::MAX)] {
        guests.record(sizes, value);
    }
    assert_eq!((guests.value(hits), guests.value(level), guests.value(sizes)), (5, 4, 0));
    let text = guests.render();
    let expected = concat!(
        "# HELP wasmcustom_cache_hits Defined by a filter.\n",
        "# TYPE wasmcustom_cache_hits counter\n",
        "wasmcustom_cache_hits{filter=\"ns/one\"} 5\n",
        "# HELP wasmcustom_cache_hits_gauge Defined by a filter.\n",
        "# TYPE wasmcustom_cache_hits_gauge gauge\n",
        "wasmcustom_cache_hits_gauge{filter=\"ns/two\"} 4\n",
        "# HELP wasmcustom_sizes Defined by a filter.\n",
        "# TYPE wasmcustom_sizes histogram\n",
        "wasmcustom_sizes_bucket{filter=\"ns/two\",le=\"1\"} 2\n",
        "wasmcustom_sizes_bucket{filter=\"ns/two\",le=\"2\"} 3\n",
        "wasmcustom_sizes_bucket{filter=\"ns/two\",le=\"4\"} 4\n",
    );
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains("le=\"1073741824\"} 4\n"), "{text}");
    assert!(text.ends_with("sizes_count{filter=\"ns/two\"} 5\n"), "{text}");
}

#[test]
fn labels_are_read_from_the_name_of_a_metric() {
    let check = |name: &str, expected: &str| {
        let guests = Guests::new(Arc::default());
        let metric = guests.define(&"ns/f".into(), MetricKind::Counter, name);
        guests.increment(metric, 1);
        let text = guests.render();
        let line = text.lines().last().unwrap().replacen("filter=\"ns/f\"", "f", 1);
        assert_eq!(line, format!("wasmcustom_{expected} 1"), "{name}");
    };
    check("hits", "hits{f}");
    check("cache.hits-total", "cache_hits_total{f}");
    check(r#"hits{tier="gold", zone="a b"}"#, r#"hits{f,tier="gold",zone="a b"}"#);
    check(r#"hits{q="a\"b\\c\nd"}"#, r#"hits{f,q="a\"b\\c\nd"}"#);
    check(r#"hits{}"#, "hits{f}");
    check(r#"hits{tier="gold}"#, "hits_tier__gold_{f}");
    check(
        "reporter=.=source;.;source_app=.=a.b;.;empty=.=;.;_istio_requests_total",
        r#"istio_requests_total{f,empty="",reporter="source",source_app="a.b"}"#,
    );
    check(
        "waf_filter.tx.interruptions_ruleid=949110_phase=http_request_headers",
        r#"waf_filter_tx_interruptions{f,phase="http_request_headers",ruleid="949110"}"#,
    );
    check("a=b", "a_b{f}");
    check(
        r#"hits{filter="x",le="1",9="n",__name__="m"}"#,
        concat!(
            r#"hits{f,exported_9="n",exported___name__="m","#,
            r#"exported_filter="x",exported_le="1"}"#
        ),
    );
    check(r#"hits{a-b="1",a.b="2"}"#, r#"hits{f,a_b="1"}"#);
}

#[test]
fn the_same_labels_in_another_order_are_the_same_series() {
    let guests = Guests::new(Arc::default());
    let define = |name: &str| guests.define(&"ns/f".into(), MetricKind::Counter, name);
    let first = define(r#"hits{a="1",b="2"}"#);
    assert_eq!(define(r#"hits{b="2",a="1"}"#), first);
    assert_eq!(define("a=.=1;.;b=.=2;.;hits"), first);
    assert_ne!(define(r#"hits{a="1"}"#), first);
}

#[test]
fn what_a_filter_defines_beyond_its_limit_is_folded_or_does_nothing_and_is_counted() {
    let registry: Arc<Registry> = Arc::default();
    let guests = Guests::new(Arc::clone(&registry));
    let (greedy, modest): (Arc<str>, Arc<str>) = ("ns/greedy".into(), "ns/modest".into());
    guests.define(&greedy, MetricKind::Gauge, "level");
    for number in 0..10_000 {
        let name = format!("hits{{user=\"{number}\"}}");
        guests.increment(guests.define(&greedy, MetricKind::Counter, &name), 1);
    }
    let another = guests.define(&greedy, MetricKind::Counter, "another");
    guests.increment(another, 1);
    let gauge = guests.define(&greedy, MetricKind::Gauge, "level{user=\"1\"}");
    guests.record(gauge, 5);
    assert_eq!((guests.value(another), guests.value(gauge)), (0, 0));
    let text = guests.render();
    assert_eq!(text.matches("\nwasmcustom_").count(), Guests::MAX_METRICS + 1);
    let overflow = "wasmcustom_hits{filter=\"ns/greedy\",overflow=\"true\"} 9001\n";
    assert!(text.contains(overflow), "{text}");
    let refused = "portcullis_filter_metrics_refused_total{filter=\"ns/greedy\"} 9003\n";
    assert!(registry.render().ends_with(refused), "{}", registry.render());

    let other = guests.define(&modest, MetricKind::Counter, "m");
    guests.increment(other, 1);
    guests.forget("ns/greedy");
    assert_eq!(guests.render().matches("\nwasmcustom_").count(), 1);
    assert_eq!(guests.value(other), 1);
    let again = guests.define(&greedy, MetricKind::Counter, "m");
    guests.increment(again, 1);
    assert_eq!(guests.value(again), 1);
    let long = "m".repeat(Guests::MAX_NAME + 1);
    let ignored = guests.define(&modest, MetricKind::Counter, &long);
    guests.increment(ignored, 1);
    assert_eq!(guests.value(ignored), 0);
}

#[test]
fn times_are_rfc_3339() {
    let check = |seconds: u64, millis: u64, expected: &str| {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(seconds * 1000 + millis);
        assert_eq!(rfc3339(time), expected);
    };
    check(0, 0, "1970-01-01T00:00:00.000Z");
    check(951_782_399, 999, "2000-02-28T23:59:59.999Z");
    check(951_782_400, 0, "2000-02-29T00:00:00.000Z");
    check(1_709_251_199, 0, "2024-02-29T23:59:59.000Z");
    check(1_735_689_599, 1, "2024-12-31T23:59:59.001Z");
    check(4_107_542_400, 0, "2100-03-01T00:00:00.000Z");
}

struct Line(usize);

impl Entry for Line {
    fn weight(&self) -> usize {
        self.0
    }
}

/// A sink whose writer stops at the first line until it is let go.
fn stalled(capacity: Capacity, dropped: &Counter) -> (Sink<Line>, Sender<()>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let (entered, wait_entered) = channel();
    let (release, released): (Sender<()>, Receiver<()>) = channel();
    let released = Mutex::new(Some(released));
    let encode = move |_: &Line, out: &mut Vec<u8>| {
        if let Some(released) = released.lock().unwrap().take() {
            entered.send(()).unwrap();
            released.recv().unwrap();
        }
        out.extend_from_slice(b"line\n");
    };
    let target = Target::File(folder.path().join("log"));
    let sink = Sink::start(&target, capacity, dropped.clone(), encode).unwrap();
    sink.push(Line(0));
    wait_entered.recv().unwrap();
    (sink, release, folder)
}

#[test]
fn what_finds_the_queue_full_is_dropped_and_counted() {
    let check = |capacity, weight, pushed, expected_dropped| {
        let dropped = Counter::default();
        let (sink, release, folder) = stalled(capacity, &dropped);
        (0..pushed).for_each(|_| sink.push(Line(weight)));
        assert_eq!(dropped.get(), expected_dropped);
        assert!(!sink.flush(Duration::ZERO));
        release.send(()).unwrap();
        assert!(sink.flush(PATIENCE));
        let lines = fs::read_to_string(folder.path().join("log")).unwrap().lines().count();
        assert_eq!(lines as u64, 1 + pushed - expected_dropped);
    };
    check(Capacity { entries: 4, bytes: 1000 }, 1, 7, 3);
    check(Capacity { entries: 100, bytes: 1000 }, 300, 5, 2);
}

struct Timeline {
    health: FilterHealth,
    start: Instant,
}

impl Timeline {
    fn begin() -> Timeline {
        let start = Instant::now();
        Timeline { health: FilterHealth::new("ns/f".into(), Arc::default(), start), start }
    }

    fn at(&self, seconds: f64) -> Instant {
        self.start + Duration::from_secs_f64(seconds)
    }

    /// Traps at these seconds; the suspension that the last one caused, in seconds.
    fn traps(&self, seconds: &[f64]) -> Option<u64> {
        let trap =
            Death { reason: TrapReason::Panic, message: "boom".to_owned(), backtrace: Vec::new() }
                .into();
        let record =
            |at: &f64| self.health.record_trap(&trap, self.at(*at), SystemTime::UNIX_EPOCH);
        seconds.iter().map(record).last().flatten().map(|pause| pause.as_secs())
    }

    fn is_suspended(&self, seconds: f64) -> bool {
        self.health.is_suspended(self.at(seconds))
    }
}

#[test]
fn five_traps_in_ten_seconds_suspend_a_filter() {
    let timeline = Timeline::begin();
    assert_eq!(timeline.traps(&[1.0, 2.0, 3.0, 4.0]), None);
    assert!(!timeline.is_suspended(4.0));
    assert_eq!(timeline.traps(&[11.0]), Some(1));
    assert!(timeline.is_suspended(11.0) && timeline.is_suspended(11.9));
    assert!(!timeline.is_suspended(12.0));
}

#[test]
fn traps_that_are_far_apart_suspend_nothing() {
    let timeline = Timeline::begin();
    let apart: Vec<f64> = (0..20).map(|n| f64::from(n) * 2.6).collect();
    assert_eq!(timeline.traps(&apart), None);
}

#[test]
fn each_suspension_is_twice_as_long_up_to_a_minute() {
    let timeline = Timeline::begin();
    let mut now = 0.0;
    for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(timeline.traps(&[now; 5]), Some(expected));
        now += expected as f64 + 0.1;
        assert!(!timeline.is_suspended(now));
    }
}

#[test]
fn a_quiet_minute_after_a_suspension_makes_the_next_one_short() {
    let timeline = Timeline::begin();
    assert_eq!(timeline.traps(&[0.0; 5]), Some(1));
    assert_eq!(timeline.traps(&[60.5; 5]), Some(2));
    assert_eq!(timeline.traps(&[122.6; 5]), Some(1));
}

#[test]
fn late_traps_of_a_suspended_filter_prolong_nothing() {
    let timeline = Timeline::begin();
    assert_eq!(timeline.traps(&[0.0; 5]), Some(1));
    assert_eq!(timeline.traps(&[0.5; 5]), None);
    assert!(!timeline.is_suspended(1.0));
}

#[test]
fn traps_and_suspensions_are_in_the_metrics() {
    let registry: Arc<Registry> = Arc::default();
    let start = Instant::now();
    let health = FilterHealth::new("ns/f".into(), Arc::clone(&registry), start);
    let trap = |reason| Death { reason, message: String::new(), backtrace: Vec::new() }.into();
    for reason in [TrapReason::Cpu, TrapReason::Cpu, TrapReason::Memory, TrapReason::Panic] {
        health.record_trap(&trap(reason), start, SystemTime::UNIX_EPOCH);
    }
    assert!(registry.render().contains("filter_suspended{filter=\"ns/f\"} 0\n"));
    health.record_trap(&trap(TrapReason::Cpu), start, SystemTime::UNIX_EPOCH);
    let text = registry.render();
    for line in [
        "portcullis_filter_suspended{filter=\"ns/f\"} 1\n",
        "portcullis_filter_traps_total{filter=\"ns/f\",reason=\"cpu\"} 3\n",
        "portcullis_filter_traps_total{filter=\"ns/f\",reason=\"memory\"} 1\n",
        "portcullis_filter_traps_total{filter=\"ns/f\",reason=\"panic\"} 1\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    health.refresh(start + Duration::from_secs(1));
    assert!(registry.render().contains("filter_suspended{filter=\"ns/f\"} 0\n"));
}
