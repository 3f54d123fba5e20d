use std::io;

use portcullis_proxy::Refusal;
use portcullis_vm::{Death, TrapReason};

fn filter(reason: TrapReason) -> Refusal {
    let trap = Death { reason, message: "no percent given".into(), backtrace: vec![] }.into();
    Refusal::Filter { name: "default/canary".into(), trap }
}

#[test]
fn a_refusal_has_a_code_and_names_its_place() {
    let listener = Refusal::Listener {
        name: "web".into(),
        address: "127.0.0.1:80".parse().unwrap(),
        problem: io::Error::other("in use"),
    };
    for (refusal, code, text) in [
        (listener, "P0501", "P0501: listener web: cannot listen on 127.0.0.1:80: in use"),
        (filter(TrapReason::Refused), "P0205", "P0205: filter default/canary: no percent given"),
        (filter(TrapReason::Cpu), "P0206", "P0206: filter default/canary: no percent given"),
        (Refusal::Worker { worker: 1 }, "P0901", "P0901: worker 1 does not answer"),
        (
            Refusal::AccessLog { path: "/no".into(), problem: "gone".into() },
            "P0502",
            "P0502: access log /no: gone",
        ),
        (Refusal::Snapshot("odd".into()), "P0902", "P0902: snapshot: odd"),
    ] {
        assert_eq!((refusal.code(), refusal.to_string().as_str()), (code, text));
    }
}
