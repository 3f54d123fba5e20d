//! What generators and proxies print, as it is read.

use portcullis_bench::load::{Tool, read};
use portcullis_bench::measure::busy_in;
use portcullis_bench::peers::{metric, requests_of_frontend, stat};
use portcullis_bench::scenario::{self, Load};
use portcullis_bench::upstream;

const WRK: &str = "Running 4s test @ http://127.0.0.1:18003/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.32ms  197.11us   9.71ms   90.43%
    Req/Sec    48.77k     1.03k   50.51k    70.73%
  Latency Distribution
     50%    1.30ms
     75%    1.36ms
     90%    1.43ms
     99%  980.50us
  199097 requests in 4.10s, 37.40MB read
Requests/sec:  48564.21
Transfer/sec:      9.12MB
";

#[test]
fn wrk_tells_counts_and_latencies_in_units_of_its_own() {
    let sample = read::wrk(WRK).unwrap();
    assert_eq!((sample.requests, sample.failures), (199_097, 0));
    assert!((sample.seconds - 4.1).abs() < 1e-9);
    assert!((sample.p50 - 1300.0).abs() < 1e-6 && (sample.p99 - 980.5).abs() < 1e-6);
}

#[test]
fn every_kind_of_failure_that_wrk_reports_counts() {
    let text = WRK.replace(
        "Requests/sec",
        "  Socket errors: connect 0, read 2, write 1, timeout 4\n  Non-2xx or 3xx responses: 10\nRequests/sec",
    );
    assert_eq!(read::wrk(&text).unwrap().failures, 17);
    assert!(read::wrk("unable to connect to 127.0.0.1:1 Connection refused").is_err());
}

#[test]
fn latencies_of_h2load_come_from_its_log() {
    let text = "finished in 4.00s, 31234.50 req/s, 3.19MB/s
requests: 124938 total, 125002 started, 124938 done, 124930 succeeded, 8 failed, 1 errored, 0 timeout
status codes: 124930 2xx, 0 3xx, 0 4xx, 8 5xx
";
    let log: String = (1..=200).map(|took| format!("1700000000\t200\t{took}\n")).collect();
    let sample = read::h2load(text, &log).unwrap();
    assert_eq!((sample.requests, sample.failures), (124_938, 9));
    assert!((sample.p50 - 101.0).abs() < 1e-9 && (sample.p99 - 199.0).abs() < 1e-9);
    assert!(read::h2load(text, "").is_err());
}

#[test]
fn what_has_no_response_or_no_2xx_fails_with_oha() {
    let text = r#"{"summary": {"total": 4.0},
        "latencyPercentiles": {"p50": 0.000120, "p99": 0.002},
        "statusCodeDistribution": {"200": 19990, "503": 6},
        "errorDistribution": {"connection closed": 4}}"#;
    let sample = read::oha(text).unwrap();
    assert_eq!((sample.requests, sample.failures), (19_996, 10));
    assert!((sample.p50 - 120.0).abs() < 1e-6 && (sample.p99 - 2000.0).abs() < 1e-6);
    assert!(read::oha("{}").is_err());
}

#[test]
fn each_scenario_has_a_generator_that_can_ask_it() {
    let all = scenario::load().unwrap();
    let tool = |name: &str, load: Load| {
        Tool::of(all.iter().find(|scenario| scenario.name == name).unwrap(), load)
    };
    assert_eq!(tool("none", Load::Saturated), Some(Tool::Wrk));
    assert_eq!(tool("none", Load::Rate(5000)), Some(Tool::Oha));
    assert_eq!(tool("http2", Load::Saturated), Some(Tool::H2load));
    assert_eq!(tool("tls", Load::Saturated), Some(Tool::Wrk));
    assert_eq!(tool("mtls", Load::Saturated), Some(Tool::Oha));
    assert_eq!(tool("idle-1k", Load::Idle(1000)), None);
}

#[test]
fn counters_of_every_proxy_are_found_on_its_page() {
    let page = "# TYPE portcullis_requests_total counter
portcullis_requests_total{listener=\"bench\",code=\"200\"} 41
portcullis_requests_total{listener=\"bench\",code=\"503\"} 1
portcullis_requests_total_of_others 5
";
    assert_eq!(metric(page, "portcullis_requests_total"), 42);
    assert_eq!(metric(page, "absent"), 0);
    let page = "http.bench.downstream_rq_total: 7\nhttp.bench.downstream_rq_total_x: 9\n";
    assert_eq!(stat(page, "http.bench.downstream_rq_total"), Some(7));
    assert_eq!(stat(page, "absent"), None);
    let table = "# pxname,svname,qcur,req_tot,\norigin,BACKEND,0,3,\nbench,FRONTEND,,11,\n";
    assert_eq!(requests_of_frontend(table, "bench"), Some(11));
    assert_eq!(requests_of_frontend(table, "absent"), None);
    let page = "Active connections: 1 \nserver accepts handled requests\n 10 10 31 \nReading: 0\n";
    assert_eq!(upstream::requests(page), Some(31));
}

#[test]
fn what_a_core_did_is_all_but_idling_and_waiting() {
    let text =
        "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 10 20 5000 300 1 2 3 0 0\ncpu1 1 1 1 1 1 1 1 1 0 0\n";
    assert_eq!(busy_in(text, "0").unwrap().as_millis(), 1360);
    assert_eq!(busy_in(text, "7"), None);
}
