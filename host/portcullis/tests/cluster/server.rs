//! A running etcd and kube-apiserver: certificates of their own, RBAC in force, killed and started again at will.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{LazyLock, Mutex};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::json;

use crate::api::Api;
use crate::cluster::program;
use crate::process::Process;

/// Of somebody who may do everything.
const ADMIN: &str = "admin-of-the-tests";
/// Ports below the range from which the system takes those of clients, so that one which is free stays so.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
const ATTEMPTS: usize = 5;

pub struct Server {
    home: PathBuf,
    program: &'static Path,
    store: SocketAddr,
    address: SocketAddr,
    authority: String,
    processes: Mutex<Processes>,
}

struct Processes {
    etcd: Option<Process>,
    apiserver: Option<Process>,
}

/// The one that is shared by all tests that leave it running.
pub fn shared() -> Option<&'static Server> {
    static SHARED: LazyLock<Option<Server>> = LazyLock::new(|| Server::start("shared"));
    SHARED.as_ref()
}

impl Server {
    /// One of its own for a test that takes it down. `None`: it cannot be had here.
    pub fn start(name: &str) -> Option<Server> {
        let program = program()?;
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cluster").join(name);
        (0..ATTEMPTS).find_map(|_| Server::attempt(program, &home)).or_else(|| {
            panic!("no API server: see the logs in {}", home.display());
        })
    }

    /// `None`: one of the two has ended, since somebody has taken its port.
    fn attempt(program: &'static Path, home: &Path) -> Option<Server> {
        let _not_there = fs::remove_dir_all(home);
        fs::create_dir_all(home).unwrap();
        let [store, address] = [free(), free()];
        let authority = certificates(home);
        fs::write(home.join("tokens"), format!("{ADMIN},admin,0,system:masters\n")).unwrap();
        let processes = Mutex::new(Processes { etcd: None, apiserver: None });
        let server =
            Server { home: home.to_owned(), program, store, address, authority, processes };
        server.start_store().then_some(())?;
        server.start_apiserver().then_some(())?;
        server.kubeconfig("admin", ADMIN, address);
        Some(server)
    }

    /// A client with all rights.
    pub fn api(&self) -> Api {
        Api::new(self.address, &self.authority, ADMIN)
    }

    /// Starts etcd on what it had, and answers whether it lives.
    pub fn start_store(&self) -> bool {
        let mut command = Command::new(self.program);
        command.arg("etcd").arg(self.home.join("etcd")).arg(self.store.to_string());
        let mut etcd = Process::start(&mut command, &self.home.join("etcd.log"));
        // As long as nobody listens, a connection may find itself at its other end.
        let answered = |stream: &TcpStream| stream.local_addr().is_ok_and(|own| own != self.store);
        let up = etcd.until(|_| TcpStream::connect(self.store).ok().filter(answered));
        let lives = up.is_some() && etcd.lives();
        self.processes.lock().unwrap().etcd = Some(etcd);
        lives
    }

    /// Starts the API server, waits until it is ready, and answers whether it lives.
    pub fn start_apiserver(&self) -> bool {
        let mut command = Command::new(self.program);
        command.arg("kube-apiserver").args(self.flags());
        let mut apiserver = Process::start(&mut command, &self.home.join("kube-apiserver.log"));
        let api = self.api();
        // Whoever answers with this certificate is ours.
        let up = apiserver.until(|_| api.get("/readyz").ok().filter(|answer| answer.status == 200));
        self.processes.lock().unwrap().apiserver = Some(apiserver);
        up.is_some()
    }

    pub fn kill_store(&self) {
        self.processes.lock().unwrap().etcd = None;
    }

    pub fn kill_apiserver(&self) {
        self.processes.lock().unwrap().apiserver = None;
    }

    /// The processes of the API server and of etcd.
    pub fn ids(&self) -> (u32, u32) {
        let processes = self.processes.lock().unwrap();
        let id = |process: &Option<Process>| process.as_ref().unwrap().id();
        (id(&processes.apiserver), id(&processes.etcd))
    }

    /// Where the API server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn flags(&self) -> Vec<String> {
        let file = |name: &str| self.home.join(name).display().to_string();
        let flags = [
            ("etcd-servers", format!("http://{}", self.store)),
            ("bind-address", self.address.ip().to_string()),
            ("secure-port", self.address.port().to_string()),
            // Nobody asks for it: no pods run here.
            ("advertise-address", "192.0.2.1".to_owned()),
            ("endpoint-reconciler-type", "none".to_owned()),
            ("service-cluster-ip-range", "10.96.0.0/24".to_owned()),
            ("tls-cert-file", file("server.crt")),
            ("tls-private-key-file", file("server.key")),
            ("cert-dir", file("made")),
            ("token-auth-file", file("tokens")),
            ("service-account-issuer", "https://kubernetes.default.svc".to_owned()),
            ("service-account-key-file", file("accounts.pub")),
            ("service-account-signing-key-file", file("accounts.key")),
            ("authorization-mode", "RBAC".to_owned()),
        ];
        flags.iter().map(|(name, value)| format!("--{name}={value}")).collect()
    }

    /// A file with which a client is whoever holds this token.
    fn kubeconfig(&self, name: &str, token: &str, at: SocketAddr) -> PathBuf {
        let (path, secret) = (self.home.join(name), self.home.join(format!("{name}.token")));
        fs::write(&secret, token).unwrap();
        let cluster = json!({"server": format!("https://{at}"), "certificate-authority": self.home.join("ca.crt")});
        let context = json!({"cluster": "tests", "user": name});
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "tests",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": name, "user": {"tokenFile": secret}}],
            "contexts": [{"name": "tests", "context": context}],
        });
        fs::write(&path, text.to_string()).unwrap();
        path
    }

    /// A file with which a client is this ServiceAccount.
    pub fn account(&self, namespace: &str, name: &str) -> PathBuf {
        self.account_at(namespace, name, self.address)
    }

    /// The same through somebody who listens elsewhere.
    pub fn account_at(&self, namespace: &str, name: &str, at: SocketAddr) -> PathBuf {
        self.kubeconfig(&format!("{namespace}.{name}"), &self.token(namespace, name), at)
    }

    /// The file with which a client is the admin.
    pub fn admin(&self) -> PathBuf {
        self.home.join("admin")
    }

    /// The file that [`Server::account`] has made.
    pub fn account_made(&self, namespace: &str, name: &str) -> PathBuf {
        self.home.join(format!("{namespace}.{name}"))
    }

    /// A token as pods get them.
    pub fn token(&self, namespace: &str, name: &str) -> String {
        self.kubectl(&["-n", namespace, "create", "token", name], "").trim().to_owned()
    }

    /// What kubectl prints, as the admin.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> String {
        self.try_kubectl(arguments, input)
            .unwrap_or_else(|said| panic!("kubectl {}: {said}", arguments.join(" ")))
    }

    /// # Errors
    /// What it says when it fails.
    pub fn try_kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut command = Command::new(self.program);
        command.arg("kubectl").arg("--kubeconfig").arg(self.admin()).args(arguments);
        command
            .env("HOME", &self.home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It need not read it all.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }
}

fn free() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % u32::from(PORTS.end - PORTS.start)).unwrap();
    loop {
        let next =
            first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % (PORTS.end - PORTS.start);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORTS.start + next));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// An authority, what the API server shows, and the key of ServiceAccounts' tokens; the authority's certificate.
fn certificates(home: &Path) -> String {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "the authority of the tests");
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let (own, accounts) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let names = ["127.0.0.1", "localhost", "kubernetes.default.svc"].map(str::to_owned);
    let shown = CertificateParams::new(names).unwrap().signed_by(&own, &issuer).unwrap();
    for (name, text) in [
        ("ca.crt", authority.clone()),
        ("server.crt", shown.pem()),
        ("server.key", own.serialize_pem()),
        ("accounts.key", accounts.serialize_pem()),
        ("accounts.pub", accounts.public_key_pem()),
    ] {
        fs::write(home.join(name), text).unwrap();
    }
    authority
}
