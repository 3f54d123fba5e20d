use std::time::Duration;

use portcullis_sdk::prelude::*;
use portcullis_sdk::test::Host;

static HELD: Gauge = Gauge::new("held");

/// Counts the requests whose phase has begun and not ended.
struct Held;

impl Drop for Held {
    fn drop(&mut self) {
        HELD.add(-1);
    }
}

/// Waits as long as the request says, then does what it says.
#[derive(Deserialize)]
struct Waiter {}

impl Filter for Waiter {
    async fn request(&self, req: &mut Request) -> Flow {
        HELD.add(1);
        let _held = Held;
        for wait in req.headers("x-wait") {
            sleep(Duration::from_millis(wait.parse().unwrap())).await;
        }
        match req.header("x-then").as_deref() {
            Some("refuse") => Err(Reply::forbidden("no").header("x-why", "because")),
            Some("grpc") => Err(Reply::grpc(14, "gone")),
            _ => {
                req.set_header("x-woken", "yes");
                CONTINUE
            }
        }
    }

    fn response(&self, res: &mut Response) {
        res.set_header("x-filter", "seen");
    }
}

filter!(Waiter: request, response);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[test]
fn a_reply_answers_at_once_and_passes_the_response_phase() {
    let host = Host::of::<Waiter>("{}");
    let end = host.get("/").header("x-then", "refuse").send();
    assert_eq!((end.status(), end.body()), (403, "no".to_owned()));
    assert_eq!(end.header("x-why").as_deref(), Some("because"));
    assert_eq!(end.header("x-filter").as_deref(), Some("seen"));
    assert!(!end.reached_upstream());
    assert_eq!(end.delayed(), Duration::ZERO);
    assert!(!host.ticking());
}

#[test]
fn a_grpc_reply_carries_status_and_message() {
    let end = Host::of::<Waiter>("{}").get("/").header("x-then", "grpc").send();
    assert_eq!((end.status(), end.grpc_status()), (200, Some(14)));
    assert_eq!(end.header("grpc-message").as_deref(), Some("gone"));
}

#[test]
fn a_sleep_holds_its_own_request_and_no_other() {
    let host = Host::of::<Waiter>("{}");
    let slow = host.get("/").header("x-wait", "300").start();
    let quick = host.get("/").header("x-wait", "100").header("x-then", "refuse").start();
    assert_eq!(host.get("/").send().delayed(), Duration::ZERO);

    host.advance(ms(99));
    assert!(slow.waits() && quick.waits());
    host.advance(ms(1));
    assert!(slow.waits() && !quick.waits());
    let quick = quick.end();
    assert_eq!((quick.status(), quick.delayed()), (403, ms(100)));
    assert!(host.ticking());

    host.advance(ms(200));
    let slow = slow.end();
    assert_eq!((slow.status(), slow.delayed()), (200, ms(300)));
    assert_eq!(slow.upstream_headers("x-woken"), ["yes"]);
    assert!(!host.ticking(), "nobody sleeps, so no timer runs");
}

#[test]
fn sleeps_in_a_row_add_up_and_a_body_does_not_let_the_head_pass() {
    let host = Host::of::<Waiter>("{}");
    let end = host.get("/").header("x-wait", "30").header("x-wait", "70").with_body().send();
    assert_eq!(end.delayed(), ms(100));
    assert_eq!(end.upstream_headers("x-woken"), ["yes"]);
}

#[test]
fn many_sleepers_wake_in_the_order_of_their_times() {
    let host = Host::of::<Waiter>("{}");
    let waits = [500, 20, 300, 20, 410];
    let pending: Vec<_> =
        waits.iter().map(|wait| host.get("/").header("x-wait", wait.to_string()).start()).collect();
    host.advance(ms(1000));
    for (pending, wait) in pending.into_iter().zip(waits) {
        assert_eq!(pending.end().delayed(), ms(wait));
    }
}

#[test]
fn a_client_that_goes_away_while_its_request_sleeps_leaves_nothing_behind() {
    let host = Host::of::<Waiter>("{}");
    drop(host.get("/").header("x-wait", "50").start());
    assert_eq!(host.metric("held"), 0);
    let other = host.get("/").header("x-wait", "60").start();
    host.advance(ms(100));
    assert_eq!(other.end().delayed(), ms(60));
    assert!(!host.ticking());
    assert_eq!(host.logs(), [""; 0]);
}
