//! Templates, and the scenarios that stand in the tree.

use std::fs;

use portcullis_bench::place;
use portcullis_bench::scenario::{self, Load, PeerName};
use portcullis_bench::template::{Filling, Words, fill};

fn filled(template: &str, filling: &Filling) -> Result<String, String> {
    fill(template, filling).map_err(|error| format!("{error:#}"))
}

#[test]
fn a_template_has_words_conditions_and_repetitions() {
    let turn = |name: &str| Words::from([("name".to_owned(), name.to_owned())]);
    let mut filling = Filling::default();
    filling.word("port", 80).flag("tls").list("filter", vec![turn("a"), turn("b")]);
    let template = "listen ${port}\n@if tls\n  secure\n@else\n  open\n@end\n@if absent\nno\n@else\nyes\n@end\n@for filter\n@if tls\n${name}:${port}\n@end\n@end\n";
    assert_eq!(filled(template, &filling).unwrap(), "listen 80\n  secure\nyes\na:80\nb:80\n");
}

#[test]
fn a_template_that_cannot_be_filled_is_refused() {
    let filling = Filling::default();
    for (template, why) in [
        ("${port}", "no word port"),
        ("@for filter\n@end", "no list filter"),
        ("@if tls\nx", "no @end"),
        ("@unless tls\n@end", "begins no block"),
        ("@end", "begins no block"),
    ] {
        let said = filled(template, &filling).unwrap_err();
        assert!(said.contains(why), "{template}: {said}");
    }
}

#[test]
fn the_scenarios_of_the_tree_can_be_read_and_their_modules_are_there() {
    let all = scenario::load().unwrap();
    for filters in all.iter().filter_map(|scenario| scenario.filter.as_ref()) {
        let places = [place::home(), place::workspace()];
        assert!(
            places.iter().any(|place| place.join(&filters.module).join("Cargo.toml").is_file())
        );
        filters.config(1).unwrap();
    }
    let policy = fs::read_to_string(place::home().join("guests/policy.json")).unwrap();
    let policy: serde_json::Value = serde_json::from_str(&policy).unwrap();
    let rules = policy["policies"].as_array().unwrap().iter();
    assert_eq!(rules.map(|policy| policy["rules"].as_array().unwrap().len()).sum::<usize>(), 100);
}

#[test]
fn a_scenario_says_what_differs_from_the_plainest_one() {
    let text = "[[scenario]]\nname = 'x'\nabout = ''\nroutes = 2\nloads = ['5000/s', '9 idle']\ncallout = true\n";
    let [scenario] = &scenario::parse(text).unwrap()[..] else { panic!("not one") };
    assert_eq!(scenario.loads, [Load::Rate(5000), Load::Idle(9)]);
    assert_eq!(scenario.paths(), ["/r/0001/x", "/r/0002/x"]);
    assert_eq!((scenario.upstream_requests(), scenario.group()), (2, "x"));
    assert_eq!(scenario.peers, PeerName::ALL);
    assert!(scenario::parse(&text.replace("9 idle", "fast")).is_err());
    assert!(scenario::parse(&text.replace("routes", "rotes")).is_err());
    assert!(scenario::parse(&text.repeat(2)).is_err());
}

#[test]
fn scenarios_of_a_group_have_as_many_rounds() {
    let of = |name: &str, rounds: &str| {
        format!("[[scenario]]\nname = '{name}'\nabout = ''\ngroup = 'g'\n{rounds}\n")
    };
    let parse = |first: &str, second: &str| scenario::parse(&(of("x", first) + &of("y", second)));
    let all = parse("rounds = 7", "rounds = 7").unwrap();
    assert_eq!(all.iter().map(|scenario| scenario.rounds).collect::<Vec<_>>(), [7, 7]);
    assert_eq!(parse("", "").unwrap()[0].rounds, 3);
    assert!(parse("rounds = 7", "").unwrap_err().to_string().contains("x and y"));
    assert!(parse("rounds = 0", "rounds = 0").is_err());
}

#[test]
fn only_scenarios_that_exist_can_be_chosen() {
    let all = || scenario::load().unwrap();
    let names = |only: &[&str], peers: &[PeerName]| {
        let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
        let chosen = scenario::chosen(all(), &only, peers).map_err(|error| error.to_string())?;
        Ok::<_, String>(chosen.into_iter().map(|scenario| scenario.name).collect::<Vec<_>>())
    };
    assert_eq!(names(&["five", "none"], &[]).unwrap(), ["none", "five"]);
    assert_eq!(names(&[], &[]).unwrap().len(), all().len());
    assert!(names(&["fife"], &[]).unwrap_err().contains("five"));
    assert_eq!(names(&["callout", "tls"], &[PeerName::Haproxy]).unwrap(), ["tls"]);
    assert!(names(&["callout"], &[PeerName::Haproxy]).is_err());
}
