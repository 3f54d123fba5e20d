//! Load that notices releases and failures, and what is told of times and memory.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use portcullis_bench::figures::percentile;
use portcullis_bench::report::Machine;
use portcullis_bench::swap::{Mark, Report, Times};
use portcullis_bench::traffic::{Tally, Traffic};

/// Answers with this release; release 0 is a failure, and then comes release 2.
fn serve(mut stream: TcpStream, current: &AtomicU32) {
    let mut request = [0; 1024];
    while stream.read(&mut request).is_ok_and(|read| read > 0) {
        let release = current.load(Ordering::SeqCst);
        if release == 0 {
            current.store(2, Ordering::SeqCst);
        }
        let status = if release == 0 { "503 No" } else { "200 OK" };
        let answer =
            format!("HTTP/1.1 {status}\r\nx-release: {release}\r\ncontent-length: 0\r\n\r\n");
        let _client_gone = stream.write_all(answer.as_bytes());
    }
}

fn server(release: &Arc<AtomicU32>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let release = release.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let release = release.clone();
            thread::spawn(move || serve(stream, &release));
        }
    });
    address
}

#[test]
fn a_release_is_everywhere_when_every_connection_has_had_its_answer() {
    let release = Arc::new(AtomicU32::new(1));
    let mut traffic = Traffic::start(server(&release), 4).unwrap();
    let first = traffic.until_everywhere(1).unwrap();
    release.store(2, Ordering::SeqCst);
    assert!(traffic.until_everywhere(2).unwrap() > first);
    let tally = traffic.finish().unwrap();
    assert!(tally.answers >= 8);
    assert_eq!((tally.failures, tally.first_failure), (0, None));
}

#[test]
fn requests_that_fail_are_counted_and_the_first_is_told() {
    let release = Arc::new(AtomicU32::new(1));
    let mut traffic = Traffic::start(server(&release), 2).unwrap();
    traffic.until_everywhere(1).unwrap();
    release.store(0, Ordering::SeqCst);
    traffic.until_everywhere(2).unwrap();
    let tally = traffic.finish().unwrap();
    assert!(tally.failures > 0);
    assert!(tally.first_failure.unwrap().contains("503"));
}

#[test]
fn a_percentile_is_a_number_that_was_measured() {
    let numbers: Vec<f64> = (1..=200).rev().map(f64::from).collect();
    assert_eq!(
        [50, 99, 100].map(|percent| percentile(&numbers, percent)),
        [100.0, 198.0, 200.0].map(Some)
    );
    assert_eq!(percentile(&[7.0], 0), Some(7.0));
    assert_eq!(percentile(&[], 50), None);
}

fn report(memory: &[f64]) -> Report {
    let times = |what: &str, mark, millis: f64| Times {
        what: what.to_owned(),
        mark,
        millis: vec![millis, millis + 1.0, millis + 10.0],
    };
    Report {
        command: "swap".to_owned(),
        machine: Machine::default(),
        small_kib: 132,
        release_kib: 175,
        times: vec![
            times("start", Some(Mark(30.0)), 29.0),
            times("change", Some(Mark(30.0)), 30.0),
            times("cold", None, 120.0),
        ],
        memory: (0..).zip(memory).map(|(number, mib)| (number * 100, *mib)).collect(),
        tally: Tally { answers: 12_345, failures: 2, first_failure: None },
    }
}

#[test]
fn times_are_told_with_their_goal_and_failures_stand_out() {
    let text = report(&[40.0, 44.0, 44.0, 45.0, 45.0]).markdown();
    let row = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(&format!("| {name} "))).unwrap();
        line.split('|').skip(2).map(str::trim).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row("start")[..5], ["3", "30.0", "39.0", "30.0", "met"]);
    assert_eq!(row("change")[..5], ["3", "31.0", "40.0", "30.0", "MISSED"]);
    assert_eq!(row("cold")[..5], ["3", "121", "130", "", ""]);
    assert!(text.contains("12 345 requests answered meanwhile, **2 failed**"), "{text}");
}

#[test]
fn memory_is_flat_if_the_second_half_is_like_the_first() {
    assert!(report(&[30.0, 44.0, 45.0, 44.0, 45.0]).markdown().contains("these changes: flat"));
    // Readings that take turns are no growth.
    let turns = [20.0, 21.4, 22.5, 21.3, 22.5, 21.2, 22.5, 21.3, 22.5, 21.3, 22.5];
    assert!(report(&turns).markdown().contains("these changes: flat"));
    assert!(report(&[44.0, 44.0, 46.0, 48.0, 50.6]).markdown().contains("GROWS, +10.0 %"));
}
