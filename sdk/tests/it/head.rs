use portcullis_sdk::prelude::*;
use portcullis_sdk::test::Host;

static SEEN: Counter = Counter::new("seen");
static OPEN: Gauge = Gauge::new("open");
static SIZES: Histogram = Histogram::new("sizes");

/// Edits in every way, and says what it saw.
#[derive(Deserialize)]
struct Editor {}

impl Filter for Editor {
    async fn request(&self, req: &mut Request) -> Flow {
        SEEN.increment();
        OPEN.add(1);
        SIZES.record(5);
        req.set_header("x-all", req.headers("x-many").join("|"));
        req.set_header("x-first", req.header_bytes("x-many").unwrap_or_default());
        req.set_header("x-cookie", req.cookie("user").unwrap_or_default());
        req.set_header("X-Peer", req.peer().map(|peer| peer.to_string()).unwrap_or_default());
        req.set_header("x-line", format!("{} {} {}", req.method(), req.authority(), req.path()));
        req.set_header("x-body", req.has_body().to_string());
        req.append_header("x-many", "appended");
        req.remove_header("x-secret");
        req.set_path("/rewritten");
        req.set_authority("other.test");
        CONTINUE
    }

    fn response(&self, res: &mut Response) {
        let seen = format!("{} {}", res.status(), res.headers("server").join("|"));
        res.set_header("x-seen", seen);
        res.append_header("set-cookie", "a=1");
        res.remove_header("server");
    }

    fn log(&self, end: &Summary) {
        OPEN.add(-1);
        log::info!("{:?} {:?}", end.status(), end.request_header("x-line"));
    }
}

filter!(Editor: request, response, log);

#[test]
fn heads_are_read_and_edited_whatever_bytes_they_hold() {
    let host = Host::of::<Editor>("{}");
    let end = host
        .request("POST", "/a?b=c")
        .header("X-Many", "one")
        .header("x-many", b"tw\xffo")
        .header("x-secret", "1")
        .header("x-secret", "2")
        .header("cookie", "theme=dark; user=ann")
        .header("cookie", "user=bob")
        .peer("[2001:db8::1]:443")
        .with_body()
        .answer(404)
        .answer_header("server", "a")
        .answer_header("server", "b")
        .send();

    let upstream = |name: &str, expected: &[&str]| {
        assert_eq!(end.upstream_headers(name), expected, "{name}");
    };
    upstream("x-all", &["one|tw\u{fffd}o"]);
    upstream("x-first", &["one"]);
    upstream("x-cookie", &["ann"]);
    upstream("x-peer", &["[2001:db8::1]:443"]);
    upstream("x-line", &["POST example.test /a?b=c"]);
    upstream("x-body", &["true"]);
    upstream("x-many", &["one", "tw\u{fffd}o", "appended"]);
    upstream("x-secret", &[]);
    upstream(":path", &["/rewritten"]);
    upstream(":authority", &["other.test"]);
    assert_eq!(end.status(), 404);
    assert_eq!(end.header("x-seen").as_deref(), Some("404 a|b"));
    assert_eq!(end.header("set-cookie").as_deref(), Some("a=1"));
    assert_eq!(end.header("server"), None);
    assert_eq!(host.logs(), [r#"info: some(404) some("post example.test /a?b=c")"#]);
    assert_eq!((host.metric("seen"), host.metric("open"), host.metric("sizes")), (1, 0, 5));
}

#[test]
fn setting_a_repeated_header_leaves_one_value() {
    let host = Host::of::<Editor>("{}");
    let end = host.get("/").header("x-all", "forged").header("x-all", "twice").send();
    assert_eq!(end.upstream_headers("x-all"), [""]);
}

/// Implements every phase, and lists one.
#[derive(Deserialize)]
struct Quiet {}

impl Filter for Quiet {
    async fn request(&self, _: &mut Request) -> Flow {
        Err(Reply::new(500))
    }

    fn response(&self, res: &mut Response) {
        res.set_header("x-quiet", "response");
    }

    fn log(&self, _: &Summary) {
        SEEN.increment();
    }
}

filter!(Quiet: response);

#[test]
fn only_the_listed_phases_are_delivered() {
    let host = Host::of::<Quiet>("{}");
    let end = host.get("/").send();
    assert!(end.reached_upstream());
    assert_eq!(end.header("x-quiet").as_deref(), Some("response"));
    assert_eq!(host.metric("seen"), 0);
}
