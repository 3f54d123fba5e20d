//! Which hosts would take a module, and what it should not expect of them.
//!
//! A table of facts about each host, and a comparison with what the module asks for. Facts are what a host links and which
//! markers it accepts, as its sources say; how a host behaves is no subject here. Nothing is loaded or run.
//!
//! Sources: proxy-wasm-cpp-host `src/wasm.cc` (which functions belong to which ABI version; `malloc`), `exports.h` and
//! `src/bytecode_util.cc` (the first known marker counts), which Envoy and Istio embed; Higress's fork of it; Kong's
//! ngx_wasm_module `ngx_proxy_wasm_host.c` and `ngx_wasi_preview1_host.c`; the documentation and the tester of Google's
//! Service Extensions, whose own host is closed. What stands here of Envoy was held against a real one (1.40), function by
//! function and version by version.

use super::{Import, Inspection};
use crate::abi::signatures::{self, ENV, MARKERS, WASI};

/// Whether a module runs on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suitability {
    /// The host's name.
    pub host: &'static str,
    /// Why it does not load there; empty: it loads.
    pub obstacles: Vec<String>,
    /// What to know where it does.
    pub notes: Vec<String>,
}

impl Suitability {
    /// Whether nothing stands against it.
    pub fn runs(&self) -> bool {
        self.obstacles.is_empty()
    }
}

struct Facts {
    host: &'static str,
    /// Marker exports that it accepts.
    markers: &'static [&'static str],
    /// Names by which it provides WASI.
    wasi: &'static [&'static str],
    /// Functions of WASI; `None`: all that we have.
    wasi_functions: Option<&'static [&'static str]>,
    /// Functions of ours that it does not link.
    lacks: &'static [&'static str],
    /// Functions that it links besides.
    adds: &'static [&'static str],
    /// Functions whose type there is another one.
    odd: &'static [(&'static str, &'static str)],
    kinship: Kinship,
    /// Bytes of memory that a module may have.
    memory: Option<u64>,
    /// What is linked, and does not work when it is called.
    hollow: &'static [&'static str],
    hollow_means: &'static str,
}

/// What follows from the code base that a host is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kinship {
    /// proxy-wasm-cpp-host: functions belong to an ABI version, types are compared strictly; the name is what a version
    /// of the host with all of WASI is called.
    CppHost(&'static str),
    /// Written from the specification; everything is linked for every version.
    Own,
}

/// Functions of one era only; in the second column the markers that they come with.
const VERSIONED: [(&str, &[&str]); 7] = [
    ("proxy_get_configuration", &[MARKERS[0]]),
    ("proxy_continue_request", &[MARKERS[0]]),
    ("proxy_continue_response", &[MARKERS[0]]),
    ("proxy_clear_route_cache", &[MARKERS[0]]),
    ("proxy_continue_stream", &["proxy_abi_version_0_2_0", "proxy_abi_version_0_2_1", HIGRESS]),
    ("proxy_close_stream", &["proxy_abi_version_0_2_0", "proxy_abi_version_0_2_1", HIGRESS]),
    ("proxy_get_log_level", &["proxy_abi_version_0_2_1", HIGRESS]),
];

const SPECIFIED: [&str; 3] =
    ["proxy_abi_version_0_1_0", "proxy_abi_version_0_2_0", "proxy_abi_version_0_2_1"];
const HIGRESS: &str = "proxy_abi_version_0_2_100";
const ACCEPTED_BY_HIGRESS: [&str; 4] =
    ["proxy_abi_version_0_1_0", "proxy_abi_version_0_2_0", "proxy_abi_version_0_2_1", HIGRESS];

const OF_HIGRESS: [&str; 5] = [
    "proxy_redis_init",
    "proxy_redis_call",
    "proxy_get_upstream_hosts",
    "proxy_set_upstream_override_host",
    "proxy_inject_encoded_data_to_filter_chain",
];

const NOT_IN_CPP_HOST: [&str; 7] = [
    OF_HIGRESS[0],
    OF_HIGRESS[1],
    OF_HIGRESS[2],
    OF_HIGRESS[3],
    OF_HIGRESS[4],
    "abort",
    "proc_raise",
];

/// Two functions that do nothing there and have lost a parameter.
const ODD_IN_CPP_HOST: [(&str, &str); 2] = [
    ("path_link", "(i32, i32, i32, i32, i32, i32) -> i32"),
    ("path_symlink", "(i32, i32, i32, i32) -> i32"),
];

const NOT_IN_KONG: [&str; 10] = [
    OF_HIGRESS[0],
    OF_HIGRESS[1],
    OF_HIGRESS[2],
    OF_HIGRESS[3],
    OF_HIGRESS[4],
    "abort",
    "proxy_get_header_map_size",
    "proxy_get_buffer_status",
    "pthread_equal",
    "emscripten_notify_memory_growth",
];

/// What every host has of WASI; cpp-host had no more before the Go compiler's modules needed it.
const BASIC_WASI: [&str; 15] = [
    "args_get",
    "args_sizes_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_close",
    "fd_fdstat_get",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_read",
    "fd_seek",
    "fd_write",
    "path_open",
    "proc_exit",
    "random_get",
];

const ENVOY: Facts = Facts {
    host: "Envoy",
    markers: &SPECIFIED,
    wasi: &WASI,
    wasi_functions: None,
    lacks: &NOT_IN_CPP_HOST,
    adds: &["envoy_resolve_dns"],
    odd: &ODD_IN_CPP_HOST,
    kinship: Kinship::CppHost("Envoy 1.33"),
    memory: None,
    hollow: &[],
    hollow_means: "",
};

const HOSTS: [Facts; 5] = [
    ENVOY,
    Facts { host: "Istio", kinship: Kinship::CppHost("an Istio on Envoy 1.33"), ..ENVOY },
    Facts {
        host: "Kong (ngx_wasm_module)",
        markers: &SPECIFIED,
        wasi: &[WASI[0]],
        wasi_functions: Some(&BASIC_WASI),
        lacks: &NOT_IN_KONG,
        adds: &[],
        odd: &[("proxy_get_log_level", "(i32, i32) -> i32")],
        kinship: Kinship::Own,
        memory: None,
        hollow: &[
            "proxy_clear_route_cache",
            "proxy_close_stream",
            "proxy_continue_response",
            "proxy_done",
            "proxy_get_status",
            "proxy_grpc_call",
            "proxy_grpc_cancel",
            "proxy_grpc_close",
            "proxy_grpc_send",
            "proxy_grpc_stream",
            "proxy_resolve_shared_queue",
        ],
        hollow_means: "these trap when they are called",
    },
    Facts {
        host: "Higress",
        markers: &ACCEPTED_BY_HIGRESS,
        lacks: &["abort", "proc_raise"],
        adds: &OF_HIGRESS,
        kinship: Kinship::CppHost("a Higress for Go 1.24"),
        ..ENVOY
    },
    Facts {
        host: "Google Service Extensions",
        kinship: Kinship::CppHost("today's service"),
        memory: Some(16 << 20),
        hollow: &[
            "proxy_define_metric",
            "proxy_dequeue_shared_queue",
            "proxy_enqueue_shared_queue",
            "proxy_get_metric",
            "proxy_get_shared_data",
            "proxy_grpc_call",
            "proxy_grpc_stream",
            "proxy_http_call",
            "proxy_increment_metric",
            "proxy_record_metric",
            "proxy_register_shared_queue",
            "proxy_resolve_shared_queue",
            "proxy_set_shared_data",
            "proxy_set_tick_period_milliseconds",
        ],
        hollow_means: "these do nothing when they are called",
        ..ENVOY
    },
];

impl Inspection {
    /// On which hosts the module loads, this one first.
    pub fn hosts(&self) -> Vec<Suitability> {
        let mut ours =
            Suitability { host: "Portcullis", obstacles: self.obstacles(), notes: Vec::new() };
        let stand_ins = self.stand_ins();
        if !stand_ins.is_empty() {
            let means = "these answer that they are not implemented";
            ours.notes.push(format!("{means}: {}", stand_ins.join(", ")));
        }
        [ours].into_iter().chain(HOSTS.iter().map(|facts| facts.judge(self))).collect()
    }

    /// What [`Inspection::verdict`] finds, all of it.
    fn obstacles(&self) -> Vec<String> {
        let mut obstacles = Vec::new();
        if self.abi.is_none() {
            obstacles.push(format!("it takes ABI {}", versions(&MARKERS)));
        }
        let unknown = self.unknown_imports();
        if !unknown.is_empty() {
            obstacles.push(format!("not there: {}", unknown.join(", ")));
        }
        obstacles.extend(self.wrong_types.iter().map(|wrong| {
            format!("{} is {} here, not {}", wrong.name, wrong.expected, wrong.found)
        }));
        obstacles
    }

    fn exports(&self, name: &str) -> bool {
        self.exports.iter().any(|export| export.name == name)
    }
}

impl Facts {
    fn judge(&self, module: &Inspection) -> Suitability {
        let mut found = Suitability { host: self.host, obstacles: Vec::new(), notes: Vec::new() };
        let mut names = module.exports.iter().map(|export| export.name.as_str());
        let marker = names.find(|name| self.markers.contains(name));
        if marker.is_none() {
            found.obstacles.push(format!("it takes ABI {}", versions(self.markers)));
        }
        let missing: Vec<String> = module
            .imports
            .iter()
            .filter(|import| self.offered(import, marker).is_none())
            .map(|import| format!("{}.{}", import.module, import.name))
            .collect();
        if !missing.is_empty() {
            found.obstacles.push(format!("not there: {}", missing.join(", ")));
        }
        found.obstacles.extend(module.imports.iter().filter_map(|import| {
            let offered = self.offered(import, marker)?;
            let fits = offered.is_empty() || offered.contains(&import.signature);
            let Import { module, name, signature, .. } = import;
            (!fits).then(|| {
                format!("{module}.{name} is {} there, not {signature}", offered.join(" or "))
            })
        }));
        self.peculiar(module, marker, &mut found);
        found
    }

    /// The types of an import that the host links; `None`: none, empty: any.
    fn offered(&self, import: &Import, marker: Option<&str>) -> Option<Vec<String>> {
        let name = import.name.as_str();
        if import.module == ENV && self.adds.contains(&name) {
            return Some(Vec::new());
        }
        let types =
            signatures::import(&import.module, name).filter(|_| !self.lacks.contains(&name))?;
        if let Some((_, odd)) = self.odd.iter().find(|row| row.0 == name) {
            return Some(vec![(*odd).to_owned()]);
        }
        if import.module != ENV {
            let linked = self.wasi.contains(&import.module.as_str())
                && self.wasi_functions.is_none_or(|known| known.contains(&name));
            return linked.then(|| types.iter().map(|one| signatures::spell(one)).collect());
        }
        let era = VERSIONED.iter().find(|row| row.0 == name);
        let outside = era.is_some_and(|row| marker.is_some_and(|marker| !row.1.contains(&marker)));
        match self.kinship {
            Kinship::CppHost(_) if outside => None,
            // The first is the one that is linked; the others are what modules get away with here.
            _ => types.first().map(|one| vec![signatures::spell(one)]),
        }
    }

    fn peculiar(&self, module: &Inspection, marker: Option<&str>, found: &mut Suitability) {
        if let Kinship::CppHost(complete) = self.kinship {
            if !module.exports("malloc") && !module.exports("proxy_on_memory_allocate") {
                let problem = "it exports neither malloc nor proxy_on_memory_allocate";
                found.obstacles.push(problem.to_owned());
            }
            found.obstacles.extend(header_callbacks(module, marker));
            let more = |import: &Import| {
                WASI.contains(&import.module.as_str())
                    && !BASIC_WASI.contains(&import.name.as_str())
            };
            if module.imports.iter().any(more) {
                found.notes.push(format!("needs {complete} or later, for its WASI imports"));
            }
        }
        if let Some(limit) = self.memory.filter(|limit| module.memory_bytes > *limit) {
            let (has, may) = (module.memory_bytes >> 20, limit >> 20);
            found
                .obstacles
                .push(format!("it starts with {has} MiB of memory, {may} MiB are allowed"));
        }
        let imported = |name: &&str| module.imports.iter().any(|import| import.name == *name);
        let hollow: Vec<&str> = self.hollow.iter().copied().filter(imported).collect();
        if !hollow.is_empty() {
            found.notes.push(format!("{}: {}", self.hollow_means, hollow.join(", ")));
        }
    }
}

/// cpp-host looks callbacks up by the type of the module's version; two parameters were of 0.1.0, three came after.
fn header_callbacks(module: &Inspection, marker: Option<&str>) -> Vec<String> {
    let expected = match marker {
        Some(marker) if marker == MARKERS[0] => "(i32, i32) -> i32",
        Some(_) => "(i32, i32, i32) -> i32",
        None => return Vec::new(),
    };
    let callbacks = ["proxy_on_request_headers", "proxy_on_response_headers"];
    let wrong = module
        .exports
        .iter()
        .filter(|export| callbacks.contains(&export.name.as_str()) && export.signature != expected);
    wrong
        .map(|export| format!("{} is {expected} there, not {}", export.name, export.signature))
        .collect()
}

/// `0.2.0, 0.2.1`
fn versions(markers: &[&str]) -> String {
    let version = |marker: &&str| marker.trim_start_matches("proxy_abi_version_").replace('_', ".");
    markers.iter().map(version).collect::<Vec<_>>().join(", ")
}
