//! Redis commands: what is refused, what is recorded, and their one completion.

use std::time::Duration;

use bytes::Bytes;
use portcullis_vm::{CallId, Effect, Phase};

use crate::host::{Host, callback};

const CALL: CallId = CallId(7);
const PING: &str = "*1\\0d\\0a$4\\0d\\0aPING\\0d\\0a";

const RESPONSE: &str = r#"
    (func (export "proxy_on_redis_call_response") (param i32 i32 i32 i32)
      (call $say32 (local.get 0)) (call $say32 (local.get 1))
      (call $say32 (local.get 2)) (call $say32 (local.get 3))
      (call $say32 (call $proxy_get_buffer_bytes (i32.const 9) (i32.const 0) (i32.const -1) OUT))
      (call $say_out))"#;

fn init(upstream: &str) -> String {
    format!(
        r#"(call $say32 (call $proxy_redis_init "{upstream}"S "app"S "hush"S (i32.const 250)))"#
    )
}

fn command(upstream: &str, query: &str) -> String {
    format!(
        r#"(i32.store (i32.const 32) (i32.const 77))
           (call $say32 (call $proxy_redis_call "{upstream}"S "{query}"S (i32.const 32)))
           (call $say32 (i32.load (i32.const 32)))"#
    )
}

fn start(code: &str) -> Host {
    let mut host = Host::new(&(callback(code) + RESPONSE));
    host.run(Phase::RequestHeaders).unwrap();
    host
}

#[test]
fn a_command_is_recorded_after_the_store_was_named() {
    let mut host = start(&(init("backend?db=3&buffer=1") + &command("backend", PING)));
    assert_eq!(host.said(), ["0", "0", "7"]);
    let effects = host.effects();
    let [Effect::RedisInit(upstream, settings), Effect::RedisCall(call)] = effects.as_slice()
    else {
        panic!("{effects:?}")
    };
    assert_eq!((upstream.as_str(), call.upstream.as_str()), ("backend", "backend"));
    assert_eq!((&*settings.user, &*settings.password), (&b"app"[..], &b"hush"[..]));
    assert_eq!((settings.database, settings.timeout), (3, Some(Duration::from_millis(250))));
    assert!(!format!("{settings:?}").contains("hush"));
    assert_eq!((call.id, &*call.query), (CALL, &b"*1\r\n$4\r\nPING\r\n"[..]));
    assert_eq!(host.plugin.made_for(CALL), Some(host.key));
}

#[test]
fn a_command_that_cannot_be_sent_leaves_no_number() {
    let known = init("backend");
    for (code, statuses) in [
        (command("backend", PING), &["10", "0"][..]),
        (command("unknown", PING), &["2", "0"]),
        (init("unknown"), &["2"]),
        (init("backend?db=x"), &["2"]),
        (init("\\ff"), &["2"]),
        (known.clone() + &command("backend", ""), &["0", "2", "0"]),
        (known.clone() + &command("backend", "PING\\0d\\0a"), &["0", "2", "0"]),
        (known.clone() + &command("backend", "*0\\0d\\0a"), &["0", "2", "0"]),
        (known.clone() + &command("backend", "*1\\0d\\0a$9\\0d\\0aPING\\0d\\0a"), &["0", "2", "0"]),
        (known.clone() + &command("backend", "*1\\0d\\0a$-1\\0d\\0a"), &["0", "2", "0"]),
        // Two commands have two replies.
        (known.clone() + &command("backend", &[PING, PING].concat()), &["0", "2", "0"]),
        (known + &command("backend", "*1\\0d\\0a$7\\0d\\0amonitor\\0d\\0a"), &["0", "2", "0"]),
    ] {
        let host = start(&code);
        assert_eq!(host.said(), statuses, "{code}");
        assert_eq!(host.plugin.outstanding_calls(), 0);
    }
}

#[test]
fn a_command_is_completed_once_with_its_reply_or_without_one() {
    let mut host =
        start(&(init("backend") + &command("backend", PING) + &command("backend", PING)));
    assert_eq!(host.said(), ["0", "0", "7", "0", "11"]);
    let mut end = |call: u32, reply: Option<&'static [u8]>| {
        let reply = reply.map(Bytes::from_static);
        host.plugin.redis_call_response(&mut host.streams, CallId(call), reply).unwrap();
        host.said()
    };
    assert_eq!(end(7, Some(b"+PONG")), ["1", "7", "0", "5", "0", "+PONG"]);
    let failed = end(11, None);
    assert_eq!(failed[..5], ["1", "11", "1", "0", "1"]);
    for call in [7, 11, 15] {
        assert!(end(call, Some(b"+PONG")).is_empty());
    }
    assert_eq!(host.plugin.outstanding_calls(), 0);
}

#[test]
fn a_command_that_nothing_will_come_of_fails_once() {
    let mut host = start(&(init("backend") + &command("backend", PING)));
    host.said();
    host.plugin.fail_calls(&mut host.streams).unwrap();
    assert_eq!(host.said()[..4], ["1", "7", "1", "0"]);
    assert_eq!(host.plugin.outstanding_calls(), 0);
}
