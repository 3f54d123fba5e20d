//! Header mutation: a guest adds, replaces and removes what the input says, and a list does the same. At the end both
//! hold the same headers.
#![no_main]

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;
use portcullis_vm::{Phase, Plugin, RequestHead, Streams};
use portcullis_vm_fuzz::host::{self, Record, Recorder};
use portcullis_vm_fuzz::{Guest, spec};

static GUEST: Guest = Guest::new();

/// Steps of three bytes and two texts: what to do, length of the name, length of the value, name, value.
const BODY: &str = r#"
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (local $at i32) (local $end i32) (local $key i32) (local $value i32) (local $value_size i32)
    (drop (call $proxy_get_buffer_bytes (i32.const 7) (i32.const 0) (i32.const -1) OUT))
    (local.set $at (i32.load (i32.const 16)))
    (local.set $end (i32.add (local.get $at) (i32.load (i32.const 20))))
    (block $done (loop $next
      (br_if $done (i32.gt_u (i32.add (local.get $at) (i32.const 3)) (local.get $end)))
      (local.set $key (i32.load8_u offset=1 (local.get $at)))
      (local.set $value (i32.add (i32.add (local.get $at) (i32.const 3)) (local.get $key)))
      (local.set $value_size (i32.load8_u offset=2 (local.get $at)))
      (br_if $done (i32.gt_u (i32.add (local.get $value) (local.get $value_size)) (local.get $end)))
      (call $edit (i32.rem_u (i32.load8_u (local.get $at)) (i32.const 3))
        (i32.add (local.get $at) (i32.const 3)) (local.get $key) (local.get $value) (local.get $value_size))
      (local.set $at (i32.add (local.get $value) (local.get $value_size)))
      (br $next)))
    (i32.const 0))
  (func $edit (param $kind i32) (param $key i32) (param $key_size i32) (param $value i32) (param $value_size i32)
    (if (i32.eqz (local.get $kind)) (then
      (drop (call $proxy_add_header_map_value (i32.const 0)
        (local.get $key) (local.get $key_size) (local.get $value) (local.get $value_size)))
      (return)))
    (if (i32.eq (local.get $kind) (i32.const 1)) (then
      (drop (call $proxy_replace_header_map_value (i32.const 0)
        (local.get $key) (local.get $key_size) (local.get $value) (local.get $value_size)))
      (return)))
    (drop (call $proxy_remove_header_map_value (i32.const 0) (local.get $key) (local.get $key_size))))"#;

/// What a request would be if the rules were a page long.
struct Model {
    pseudo: [(&'static [u8], Vec<u8>); 4],
    fields: Vec<(String, Vec<u8>)>,
}

impl Model {
    fn of(head: &RequestHead) -> Model {
        let fields = head.headers.iter();
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let fields = fields.map(|(name, value)| (text(name), value.to_vec()));
        Model {
            pseudo: [
                (b":authority", head.authority.to_vec()),
                (b":path", head.path.to_vec()),
                (b":method", head.method.as_str().into()),
                (b":scheme", head.scheme.to_vec()),
            ],
            fields: fields.collect(),
        }
    }

    fn set_pseudo(&mut self, key: &[u8], value: &[u8]) -> bool {
        let host = key.eq_ignore_ascii_case(b"host");
        let key = if host { b":authority" } else { key };
        let Some((name, known)) = self.pseudo.iter_mut().find(|(name, _)| *name == key) else {
            return false;
        };
        let allowed = match *name {
            b":method" => Method::from_bytes(value).is_ok(),
            b":path" if value.is_empty() => false,
            _ => value.iter().all(|byte| *byte > b' ' && *byte != 0x7f),
        };
        if allowed {
            *known = value.to_vec();
        }
        true
    }

    fn edit(&mut self, kind: u8, key: &[u8], value: &[u8]) {
        if kind == 2 {
            if !key.starts_with(b":") && !key.eq_ignore_ascii_case(b"host") {
                let name = String::from_utf8_lossy(key).to_ascii_lowercase();
                self.fields.retain(|(known, _)| *known != name);
            }
            return;
        }
        if self.set_pseudo(key, value) {
            return;
        }
        let (Ok(name), Ok(_)) = (HeaderName::from_bytes(key), HeaderValue::from_bytes(value))
        else {
            return;
        };
        let is_it = |(known, _): &(String, Vec<u8>)| *known == name.as_str();
        let replaced = self.fields.iter().position(is_it).filter(|_| kind == 1);
        let later = self.fields.split_off(replaced.unwrap_or(self.fields.len()));
        if self.fields.len() < 1024 {
            self.fields.push((name.to_string(), value.to_vec()));
        }
        self.fields.extend(later.into_iter().filter(|field| !is_it(field)));
    }

    fn play(&mut self, mut input: &[u8]) {
        while let [kind, key, value, rest @ ..] = input {
            let (key, value) = (usize::from(*key), usize::from(*value));
            let Some((texts, rest)) = rest.split_at_checked(key + value) else { return };
            self.edit(kind % 3, &texts[..key], &texts[key..]);
            input = rest;
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let module = GUEST.module(|| host::wat(BODY));
    let services = Box::new(Recorder(Record::default().into()));
    let spec = spec(input);
    let configuration: Bytes = spec.configuration.clone();
    let mut plugin = Plugin::start(module, spec, services).expect("it starts");
    let mut streams = Streams::default();
    let key = streams.insert(host::stream());
    let mut model = Model::of(&streams.get(key).expect("it is there").request);
    let context = plugin.create_context(&mut streams, key).expect("it lives");
    plugin.run(&mut streams, context, Phase::RequestHeaders, true).expect("no edit is a trap");
    model.play(&configuration);
    let head = &streams.get(key).expect("it is there").request;
    let found = Model::of(head);
    assert_eq!(found.fields, model.fields);
    assert_eq!(found.pseudo, model.pseudo);
});
