//! Shared data, queues and metrics.

use portcullis_vm::MetricKind;

use crate::host::check;

#[test]
fn shared_data_is_written_with_and_without_a_version() {
    let set = |value: &str, cas: u32| {
        format!(
            r#"(call $say32 (call $proxy_set_shared_data "key"S "{value}"S (i32.const {cas})))"#
        )
    };
    let get = r#"(call $say32 (call $proxy_get_shared_data "key"S OUT (i32.const 24)))
        (call $say_out) (call $say32 (i32.load (i32.const 24)))"#;
    let code = [get, &set("one", 0), get, &set("two", 9), &set("two", 1), get].concat();
    check(&code, &["1", "", "0", "0", "0", "one", "1", "8", "0", "0", "two", "2"]);
}

#[test]
fn queues_are_registered_found_filled_and_emptied() {
    let dequeue =
        r#"(call $say32 (call $proxy_dequeue_shared_queue (i32.const 1) OUT)) (call $say_out)"#;
    let code = format!(
        r#"(call $say32 (call $proxy_register_shared_queue "q"S (i32.const 24)))
           (call $say32 (i32.load (i32.const 24)))
           (call $say32 (call $proxy_resolve_shared_queue ""S "q"S (i32.const 24)))
           (call $say32 (call $proxy_resolve_shared_queue ""S "other"S (i32.const 24)))
           (call $say32 (call $proxy_enqueue_shared_queue (i32.const 1) "element"S))
           (call $say32 (call $proxy_enqueue_shared_queue (i32.const 7) "element"S))
           {dequeue} {dequeue}
           (call $say32 (call $proxy_dequeue_shared_queue (i32.const 7) OUT))"#
    );
    check(&code, &["0", "1", "0", "1", "0", "1", "0", "element", "7", "", "1"]);
}

#[test]
fn a_queue_for_which_there_is_no_room_does_not_exist() {
    let code = r#"(i32.store (i32.const 24) (i32.const -1))
        (call $say32 (call $proxy_register_shared_queue "one too many"S (i32.const 24)))
        (call $say32 (i32.load (i32.const 24)))
        (call $say32 (call $proxy_enqueue_shared_queue (i32.const 0) "element"S))"#;
    let ignored = "proxy_register_shared_queue ignored: there is no room for another queue";
    check(code, &[ignored, "0", "0", "1"]);
}

#[test]
fn metrics_are_numbered_as_envoy_numbers_them() {
    let define = |kind: u32, name: &str| {
        format!(
            r#"(call $say32 (call $proxy_define_metric (i32.const {kind}) "{name}"S (i32.const 24)))
               (call $say32 (i32.load (i32.const 24)))"#
        )
    };
    let code = define(0, "c1")
        + &define(1, "g1")
        + &define(2, "h1")
        + &define(0, "c2")
        + &define(0, "c1")
        + &define(3, "x");
    check(&code, &["0", "4", "0", "5", "0", "6", "0", "8", "0", "4", "2", "0"]);
}

#[test]
fn metrics_are_counted_set_and_read_as_their_kind_allows() {
    let define = |kind: u32| {
        format!(r#"(drop (call $proxy_define_metric (i32.const {kind}) "m"S (i32.const 24)))"#)
    };
    let add = |id: u32, delta: i64| {
        format!("(call $say32 (call $proxy_increment_metric (i32.const {id}) (i64.const {delta})))")
    };
    let get = |id: u32| {
        format!(
            "(call $say32 (call $proxy_get_metric (i32.const {id}) (i32.const 32)))
             (call $say64 (i64.load (i32.const 32)))"
        )
    };
    let code = define(0)
        + &define(1)
        + &define(2)
        + &add(4, 3)
        + &add(4, 0)
        + &add(5, -2)
        + &add(6, 1)
        + &add(12, 1)
        + &add(3, 1)
        + "(call $say32 (call $proxy_record_metric (i32.const 5) (i64.const 40)))"
        + "(call $say32 (call $proxy_record_metric (i32.const 6) (i64.const 9)))"
        + "(call $say32 (call $proxy_record_metric (i32.const 0) (i64.const 9)))"
        + &get(4)
        + &get(6);
    let host = check(&code, &["0", "2", "0", "2", "1", "1", "0", "0", "1", "0", "3", "2", "3"]);
    let metric = |kind, value| (kind, "m".to_owned(), value);
    assert_eq!(
        host.record.metrics(),
        [
            metric(MetricKind::Counter, 3),
            metric(MetricKind::Gauge, 40),
            metric(MetricKind::Histogram, 9)
        ]
    );
}

#[test]
fn time_comes_from_the_embedder() {
    check(
        "(drop (call $proxy_get_current_time_nanoseconds (i32.const 33)))
         (call $say64 (i64.load (i32.const 33)))",
        &["1234567890123456789"],
    );
}
