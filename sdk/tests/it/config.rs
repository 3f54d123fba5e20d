use std::time::Duration;

use portcullis_sdk::prelude::*;
use portcullis_sdk::test::Host;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    #[serde(default)]
    percent: Percent,
    #[serde(default)]
    wait: DurationText,
    status: Option<Status>,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    header: String,
}

impl Filter for Shape {
    fn check(&self) -> Result<(), ConfigError> {
        match self.rules.iter().position(|rule| rule.header.is_empty()) {
            Some(index) => Err(ConfigError::new(format!("rules[{index}].header"), "is empty")),
            None => Ok(()),
        }
    }

    async fn request(&self, _: &mut Request) -> Flow {
        let milliseconds = Duration::from(self.wait).as_millis();
        let status = self.status.map_or(0, u16::from);
        Err(Reply::new(200).body(format!("{} {milliseconds} {status}", self.percent.value())))
    }
}

filter!(Shape: request);

#[test]
fn a_configuration_becomes_the_filter() {
    let check = |json: &str, expected: &str| {
        assert_eq!(Host::of::<Shape>(json).get("/").send().body(), expected, "{json}");
    };
    check(r#"{"percent": 12.5, "wait": "1m30s250ms", "status": 503}"#, "12.5 90250 503");
    check(r#"{"percent": 100, "wait": "2h"}"#, "100 7200000 0");
    check("{}", "0 0 0");
    check("", "0 0 0");
}

#[test]
fn a_refused_configuration_is_named_with_its_path() {
    let check = |json: &str, expected: &str| {
        assert_eq!(Host::refusal::<Shape>(json), expected, "{json}");
    };
    check(r#"{"percent": 140}"#, "config.percent: 140 is above 100");
    check(r#"{"percent": -1}"#, "config.percent: -1 is below 0");
    check(r#"{"percent": "half"}"#, r#"config.percent: invalid type: string "half", expected f64"#);
    for wait in ["5", "1.5s", "5 s", "-1s", "1d", "s", "", "123456s", "1s1s1s1s1s", "٣s"] {
        check(
            &format!(r#"{{"wait": "{wait}"}}"#),
            &format!("config.wait: `{wait}` is not a duration such as 250ms or 1m30s"),
        );
    }
    check(r#"{"status": 101}"#, "config.status: 101 is not a final HTTP status (200 to 599)");
    check(r#"{"rules": [{"header": "a"}, {}]}"#, "config.rules[1]: missing field `header`");
    check(r#"{"rules": [{"header": "a"}, {"header": ""}]}"#, "config.rules[1].header: is empty");
    check(
        r#"{"rules": [{"headr": "a"}]}"#,
        "config.rules[0].headr: unknown field `headr`, expected `header`",
    );
    check(r#"{"percent": 1"#, "config: EOF while parsing an object at line 1 column 13");
    check("{} {}", "config: trailing characters at line 1 column 4");
    check("name: yaml", "config: expected ident at line 1 column 2");
}

#[test]
fn a_share_is_stable_monotonous_and_about_as_large_as_it_says() {
    let share = |percent: f64| Percent::try_from(percent).unwrap();
    let covered = |percent: f64| -> Vec<usize> {
        (0..10_000).filter(|user| share(percent).covers(&format!("user-{user}"))).collect()
    };
    let (ten, twenty) = (covered(10.0), covered(20.0));
    assert_eq!(ten, covered(10.0));
    assert!((900..1100).contains(&ten.len()), "{}", ten.len());
    assert!((1850..2150).contains(&twenty.len()), "{}", twenty.len());
    assert!(ten.iter().all(|user| twenty.contains(user)));
    assert!(covered(0.0).is_empty());
    assert_eq!(covered(100.0).len(), 10_000);
    assert!((60..140).contains(&covered(1.0).len()));
}
