//! References as people write them, and docker configs as tools write them.

use portcullis::fetch::oci::{Challenge, Credentials, Reference};

#[test]
fn references_are_read_as_docker_reads_them() {
    let pin = "a".repeat(64);
    for (text, full, url) in [
        (
            "canary",
            "docker.io/library/canary:latest",
            "https://registry-1.docker.io/v2/library/canary/x",
        ),
        (
            "acme/canary:1.2",
            "docker.io/acme/canary:1.2",
            "https://registry-1.docker.io/v2/acme/canary/x",
        ),
        (
            "index.docker.io/canary",
            "docker.io/library/canary:latest",
            "https://registry-1.docker.io/v2/library/canary/x",
        ),
        ("oci://ghcr.io/acme/a/b_c:v1", "ghcr.io/acme/a/b_c:v1", "https://ghcr.io/v2/acme/a/b_c/x"),
        ("LOCALHOST.lan/a", "localhost.lan/a:latest", "https://localhost.lan/v2/a/x"),
        ("localhost/a:1", "localhost/a:1", "https://localhost/v2/a/x"),
        ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest", "https://127.0.0.1:5000/v2/a/b/x"),
        ("[::1]:5000/a:b", "[::1]:5000/a:b", "https://[::1]:5000/v2/a/x"),
    ] {
        let image: Reference = text.parse().unwrap();
        assert_eq!(image.to_string(), full, "{text}");
        assert_eq!(image.url(&http::uri::Scheme::HTTPS, "x").unwrap().to_string(), url, "{text}");
        assert_eq!(full.parse::<Reference>().unwrap().repository, image.repository);
    }
    let pinned: Reference = format!("ghcr.io/a/b:1@sha256:{pin}").parse().unwrap();
    assert_eq!(pinned.to_string(), format!("ghcr.io/a/b:1@sha256:{pin}"));
    assert_eq!(pinned.version(), format!("sha256:{pin}"));
}

#[test]
fn what_is_no_reference_is_refused_with_what_is_wrong() {
    for (text, cause) in [
        ("", "lower case"),
        ("ghcr.io/Acme/canary", "lower case"),
        ("ghcr.io/acme//canary", "lower case"),
        ("ghcr.io/acme/../canary", "lower case"),
        ("ghcr.io/acme/canary?x", "lower case"),
        ("ghcr.io/acme/canary:", "a tag"),
        ("ghcr.io/acme/canary:-1", "a tag"),
        ("ghcr.io/acme/canary@sha256:12", "64 digits"),
        ("ghcr.io/acme/canary@md5:12", "64 digits"),
        ("user:secret@ghcr.io/acme/canary", "names and passwords"),
        ("oci://user:secret@ghcr.io/acme/canary:1", "names and passwords"),
    ] {
        let error = text.parse::<Reference>().unwrap_err();
        assert_eq!(error.code().to_string(), "P0403", "{text}");
        assert!(error.to_string().contains(cause), "{text}: {error}");
        assert!(!error.to_string().contains("secret"), "{text}: {error}");
    }
}

#[test]
fn a_docker_config_gives_the_nearest_entry() {
    let config = r#"{"auths": {
        "https://index.docker.io/v1/": {"auth": "aHViOnNlY3JldA=="},
        "ghcr.io": {"username": "all", "password": "a:b"},
        "ghcr.io/acme": {"auth": "YWNtZTpi"},
        "https://token.example/v2/": {"identitytoken": "t"},
        "127.0.0.1:5000": {}
    }, "credsStore": "desktop"}"#;
    let of = |image: &str| Credentials::of(config.as_bytes(), &image.parse().unwrap());
    let user = |image: &str| of(image).unwrap().map(|found| (found.user, found.password));
    let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
    assert_eq!(user("canary"), pair("hub", "secret"));
    assert_eq!(user("ghcr.io/other/canary"), pair("all", "a:b"));
    assert_eq!(user("ghcr.io/acme/canary"), pair("acme", "b"));
    assert_eq!(user("ghcr.io/acmeandmore/canary"), pair("all", "a:b"));
    assert_eq!(user("quay.io/acme/canary"), None);
    assert_eq!(of("token.example/a").unwrap().unwrap().identity.as_deref(), Some("t"));
    assert!(of("127.0.0.1:5000/a").unwrap_err().contains("credsStore"));
    let other = br#"{"auths": {"https://registry-1.docker.io/v2/": {"auth": "aHViOnNlY3JldA=="}}}"#;
    assert_eq!(Credentials::of(other, &"a/b".parse().unwrap()).unwrap().unwrap().user, "hub");
    let broken = Credentials::of(b"{\"auths\": {\"a\": \"hunter2\"}}", &"a".parse().unwrap());
    assert!(!broken.unwrap_err().contains("hunter2"), "what is in such a file is not told");
}

#[test]
fn challenges_are_read_with_all_their_commas() {
    let of = |text: &'static str| {
        let mut headers = http::HeaderMap::new();
        headers.insert("www-authenticate", http::HeaderValue::from_static(text));
        Challenge::of(&headers)
    };
    let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| Challenge::Bearer {
        realm: realm.to_owned(),
        service: service.map(str::to_owned),
        scope: scope.map(str::to_owned),
    };
    let text = r#"Bearer realm="https://a/t",service="a.b",scope="repository:x:pull,push""#;
    let full = bearer("https://a/t", Some("a.b"), Some("repository:x:pull,push"));
    assert_eq!(of(text), [full]);
    let both = r#"Basic realm="a, b", bearer realm=https://a"#;
    assert_eq!(of(both), [Challenge::Basic, bearer("https://a", None, None)]);
    assert_eq!(of("Negotiate"), []);
    assert_eq!(of("Bearer service=x"), [], "a token service without an address is none");
}
