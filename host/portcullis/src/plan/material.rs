//! What TLS of a listener or a backend is made of: certificate, key and authorities, from files beside the document or from
//! Secrets, as `kubectl create secret tls` and cert-manager make them.
//!
//! It remembers where each text is from, so that a problem names that; what a text holds is in no problem.

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use bytes::Bytes;
use portcullis_proxy::TlsError;

use super::desk::Desk;
use super::{CONFIG_MAP, own_namespace};
use crate::diagnose::{Code, Problem};
use crate::spec::own::CertificateRef;
use crate::spec::{Document, is_name};

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITIES: &str = "ca.crt";
const SECRET: &str = "Secret";
const CONFIG_MAP_KIND: &str = "ConfigMap";

/// What a Secret of the cluster holds for TLS, in PEM. Never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TlsSecret(BTreeMap<String, Bytes>);

impl TlsSecret {
    /// Of these keys and values those that matter.
    pub fn new(values: impl IntoIterator<Item = (String, Bytes)>) -> TlsSecret {
        let matters = |key: &str| [CERTIFICATE, KEY, AUTHORITIES].contains(&key);
        TlsSecret(values.into_iter().filter(|(key, _)| matters(key)).collect())
    }

    /// Its keys and values, in order.
    pub fn values(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }
}

impl fmt::Debug for TlsSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The fields of a `tls`.
pub(super) struct Written<'a> {
    pub certificate_refs: Option<&'a [CertificateRef]>,
    pub certificate_file: Option<&'a str>,
    pub key_file: Option<&'a str>,
    pub ca_refs: Option<&'a [CertificateRef]>,
    /// Name and value.
    pub ca_file: (&'static str, Option<&'a str>),
}

/// What stands in them.
pub(super) struct Material {
    pub certificate: Option<Text>,
    pub key: Option<Text>,
    pub ca: Option<Text>,
}

/// A text in PEM.
pub(super) struct Text {
    pub pem: Bytes,
    /// The field that names it.
    field: String,
    /// `tls.key of the Secret shop/web`; `None`: a file of its own.
    held: Option<String>,
}

impl Written<'_> {
    /// Everything that is named; `None`: something is wrong, and told.
    pub fn read(&self, document: &Document, field: &str, desk: &mut Desk<'_>) -> Option<Material> {
        let identity = self.identity(document, field, desk);
        let ca = self.authorities(document, field, desk);
        let ((certificate, key), ca) = (identity?, ca?);
        Some(Material { certificate, key, ca })
    }

    fn identity(
        &self,
        document: &Document,
        field: &str,
        desk: &mut Desk<'_>,
    ) -> Option<(Option<Text>, Option<Text>)> {
        let certificate = ("certificateFile", self.certificate_file);
        let key = ("keyFile", self.key_file);
        let Some(refs) = self.certificate_refs else {
            let certificate = file(document, field, certificate, desk);
            let key = file(document, field, key, desk);
            return Some((certificate?, key?));
        };
        let refs = ("certificateRefs", refs);
        alone(document, field, refs.0, &[certificate, key], desk)?;
        let held = Held::find(document, field, refs, &[SECRET], desk)?;
        let certificate = held.text(document, CERTIFICATE, desk);
        let key = held.text(document, KEY, desk);
        Some((Some(certificate?), Some(key?)))
    }

    fn authorities(
        &self,
        document: &Document,
        field: &str,
        desk: &mut Desk<'_>,
    ) -> Option<Option<Text>> {
        let Some(refs) = self.ca_refs else {
            return file(document, field, self.ca_file, desk);
        };
        let refs = ("caCertificateRefs", refs);
        alone(document, field, refs.0, &[self.ca_file], desk)?;
        let held = Held::find(document, field, refs, &[SECRET, CONFIG_MAP_KIND], desk)?;
        held.text(document, AUTHORITIES, desk).map(Some)
    }
}

/// `None`: it cannot be read.
fn file(
    document: &Document,
    field: &str,
    (name, path): (&str, Option<&str>),
    desk: &mut Desk<'_>,
) -> Option<Option<Text>> {
    let Some(path) = path else { return Some(None) };
    let field = format!("{field}.{name}");
    let pem = desk.file(document, &field, path)?;
    Some(Some(Text { pem, field, held: None }))
}

/// Files beside references would say the same twice.
fn alone(
    document: &Document,
    field: &str,
    refs: &str,
    files: &[(&str, Option<&str>)],
    desk: &mut Desk<'_>,
) -> Option<()> {
    let Some((name, _)) = files.iter().find(|(_, path)| path.is_some()) else { return Some(()) };
    let title = format!("`{refs}` takes the place of `{name}`");
    let problem = document.problem(Code::P0111, &format!("{field}.{name}"), title);
    desk.refuse(problem.hint("name files, or a Secret, not both"))
}

/// A Secret or ConfigMap that a document names.
struct Held<'a> {
    /// Of the reference.
    field: String,
    kind: &'a str,
    name: &'a str,
    /// Where it lies; `None`: it is the folder of its name beside the document, as Kubernetes mounts it.
    namespace: Option<&'a str>,
    /// What is in it, if it is a Secret of the cluster.
    secret: Option<TlsSecret>,
}

impl<'a> Held<'a> {
    fn find(
        document: &'a Document,
        field: &str,
        (name, refs): (&str, &'a [CertificateRef]),
        kinds: &[&str],
        desk: &mut Desk<'_>,
    ) -> Option<Held<'a>> {
        let [reference] = refs else {
            let title = format!("`{name}` names {}, and one is taken", refs.len());
            let problem = document.problem(Code::P0111, &format!("{field}.{name}"), title);
            return desk.refuse(problem.hint("name one"));
        };
        let field = format!("{field}.{name}[0]");
        let namespace = own_namespace(&document.file);
        check(document, (&field, reference), (kinds, namespace), desk)?;
        let kind = reference.kind.as_deref().unwrap_or(SECRET);
        let name = reference.name.as_str();
        let secret = match namespace.filter(|_| kind == SECRET) {
            Some(namespace) => match desk.modules.secret(&document.file, namespace, name) {
                Ok(secret) => Some(secret),
                Err(found) => {
                    let problem = document.problem(found.code, &field, &*found.title);
                    return desk.refuse(Problem {
                        cause: found.cause,
                        hint: found.hint,
                        ..problem
                    });
                }
            },
            None => None,
        };
        Some(Held { field, kind, name, namespace, secret })
    }

    fn text(&self, document: &Document, key: &str, desk: &mut Desk<'_>) -> Option<Text> {
        let Held { field, kind, name, namespace, secret } = self;
        let shown = match namespace {
            Some(namespace) => format!("the {kind} {namespace}/{name}"),
            None => format!("the {kind} {name}"),
        };
        let pem = match (namespace, secret) {
            (None, _) => {
                let hint = "outside of a cluster, this is a folder of that name beside the document, as \
                            Kubernetes mounts it; `run --kubernetes` reads the Secret itself";
                desk.file_or(document, field, &format!("{name}/{key}"), hint)?
            }
            (Some(namespace), None) => {
                let path = format!("{CONFIG_MAP}{namespace}/{name}/{key}");
                let hint = "a ConfigMap with the label that is watched, and this key";
                desk.file_or(document, field, &path, hint)?
            }
            (Some(_), Some(secret)) => match secret.0.get(key) {
                Some(pem) => pem.clone(),
                None => {
                    let problem =
                        document.problem(Code::P0424, field, format!("{shown} has no {key}"));
                    let hint = "`kubectl create secret tls` and cert-manager make such Secrets";
                    return desk.refuse(problem.hint(hint));
                }
            },
        };
        Some(Text { pem, field: field.clone(), held: Some(format!("{key} of {shown}")) })
    }
}

/// Whether a reference can mean anything here.
fn check(
    document: &Document,
    (field, reference): (&str, &CertificateRef),
    (kinds, own): (&[&str], Option<&str>),
    desk: &mut Desk<'_>,
) -> Option<()> {
    let group = reference.group.as_deref().unwrap_or_default();
    let kind = reference.kind.as_deref().unwrap_or(SECRET);
    if !matches!(group, "" | "core") || !kinds.contains(&kind) {
        let title = format!("{kind} of {group:?} is not what is taken here");
        let problem = document.problem(Code::P0111, &format!("{field}.kind"), title);
        return desk.refuse(problem.hint(format!("use kind: {}", kinds.join(" or "))));
    }
    if !is_name(&reference.name) {
        let title = format!("{:?} is not the name of a {kind}", reference.name);
        let problem = document.problem(Code::P0111, &format!("{field}.name"), title);
        return desk.refuse(problem.hint("use lower case letters, digits, `-` and `.`"));
    }
    match (own, reference.namespace.as_deref()) {
        (Some(own), Some(other)) if own != other => {
            let title = format!("a {kind} of the namespace {other} is not read for this document");
            let problem = document.problem(Code::P0111, &format!("{field}.namespace"), title);
            let cause = format!("its ConfigMap lies in {own}");
            desk.refuse(
                problem.because(cause).hint("remove it, and put a copy beside the ConfigMap"),
            )
        }
        _ => Some(()),
    }
}

impl Material {
    /// What TLS says of it.
    pub fn problem(&self, document: &Document, field: &str, error: &TlsError) -> Problem {
        let code = error.code().parse().unwrap_or(Code::P0601);
        let text = match error {
            TlsError::NoKey | TlsError::Key(_) | TlsError::KeyMismatch => &self.key,
            TlsError::Pem { what: "key", .. } => &self.key,
            TlsError::Pem { what: "CA certificate", .. }
            | TlsError::NoCertificate { what: "CA certificate" }
            | TlsError::Certificate { what: "CA certificate", .. } => &self.ca,
            TlsError::Hostname(_) => &None,
            _ => &self.certificate,
        };
        let (field, title) = match text {
            Some(Text { field, held: Some(held), .. }) => {
                (field.clone(), format!("{held}: {error}"))
            }
            Some(text) => (text.field.clone(), error.to_string()),
            None => (format!("{field}.hostname"), error.to_string()),
        };
        let problem = document.problem(code, &field, title);
        problem.hint(format!("`portcullis explain {code}` says how to look into such files"))
    }

    /// A certificate that has expired still serves, to clients that do not look.
    pub fn tell_expired(&self, document: &Document, expires_at: i64, desk: &mut Desk<'_>) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let fresh = i64::try_from(now.as_secs()).is_ok_and(|now| now < expires_at);
        let Some(certificate) = self.certificate.as_ref().filter(|_| !fresh) else { return };
        let title = match &certificate.held {
            Some(held) => format!("{held} has expired"),
            None => "this certificate has expired".to_owned(),
        };
        let problem = document.problem(Code::P0605, &certificate.field, title).warning();
        desk.problems.push(problem.hint("put a new one there; it is taken without a restart"));
    }
}
