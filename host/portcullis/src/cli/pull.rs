//! `portcullis pull`: brings the module of an image, whatever tool pushed it, and says to which digest the tag led.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use super::{Exit, Outcome, registry};
use crate::diagnose::{Code, Problem};
use crate::fetch::oci::Reference;
use crate::fetch::{Brought, FetchErrorKind, Order, Version, open_downloads};
use crate::spec::filter::PullPolicy;
use crate::term::{Term, clean};

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An image, such as ghcr.io/acme/canary:1.2
    #[arg(value_name = "REFERENCE")]
    pub reference: String,
    /// Where to write the module [default: only into the user's cache, for `run --offline`]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Where fetched modules are kept [default: the user's cache folder]
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// How to speak to the registry.
    #[command(flatten)]
    pub registry: registry::Args,
}

/// Fetches, writes, and prints the pinned reference last.
pub fn run(args: &Args, term: &Term) -> Outcome {
    let image = match args.reference.parse::<Reference>() {
        Ok(image) => image,
        Err(error) => return failed(error),
    };
    let brought = args
        .registry
        .registries(&image)
        .map_err(|problem| Outcome::failed(Exit::Invalid, *problem))
        .and_then(|registries| {
            let downloads = open_downloads(args.cache.as_deref()).map_err(failed)?;
            let order = Order { registries, ..order(&image.to_string()) };
            order.bring(&downloads).map_err(failed)
        });
    let Brought { delivery, bytes } = match brought {
        Ok(brought) => brought,
        Err(outcome) => return outcome,
    };
    if let Some(file) = &args.output {
        if let Err(problem) = fs::write(file, &bytes) {
            let title = format!("cannot write {}", file.display());
            let problem = Problem::new(Code::P0401, title).because(problem.to_string());
            return Outcome::failed(Exit::Failed, problem);
        }
        term.say(&format!("wrote {} ({} bytes)", file.display(), bytes.len()));
    }
    let pinned = image.pinned(delivery.digest).to_string();
    let data = json!({
        "schema": "portcullis.pull/1",
        "reference": image.to_string(),
        "pinned": pinned,
        "digest": format!("sha256:{}", delivery.digest),
        "module": format!("sha256:{}", delivery.module),
        "size": bytes.len(),
        "file": args.output,
    });
    Outcome::fine(format!("module sha256:{}\n{}", delivery.module, clean(&pinned)), data)
}

/// Looks the name up again, whatever is known of it.
pub(super) fn order(url: &str) -> Order {
    Order {
        url: url.to_owned(),
        sha256: None,
        policy: PullPolicy::Always,
        registries: Default::default(),
        trust: Vec::new(),
        secret: None,
        secrets: None,
        occasion: Version::of(b""),
    }
}

/// What did not come ends with 69 where it may come later, else with 65.
pub(super) fn failed(error: crate::fetch::FetchError) -> Outcome {
    let exit = match error.kind() {
        FetchErrorKind::Unreachable | FetchErrorKind::Late | FetchErrorKind::Missing => {
            Exit::Unavailable
        }
        FetchErrorKind::Denied | FetchErrorKind::Offline => Exit::Unavailable,
        FetchErrorKind::Folder => Exit::Setup,
        FetchErrorKind::Refused => Exit::Failed,
        _ => Exit::Invalid,
    };
    let hint = hint(error.kind());
    let problem = Problem::from(error);
    Outcome::failed(exit, hint.into_iter().fold(problem, Problem::hint))
}

/// What to do about it, where that is not what the author of a document would do.
fn hint(kind: FetchErrorKind) -> Option<&'static str> {
    match kind {
        FetchErrorKind::Reference => Some(
            "write HOST/REPOSITORY:TAG or HOST/REPOSITORY@sha256:DIGEST; only images are pulled and pushed",
        ),
        FetchErrorKind::Denied => Some(
            "`docker login` or `skopeo login` first, or name a docker config with --credentials; it \
             has to hold the password itself, since helpers are not asked",
        ),
        FetchErrorKind::Forbidden => {
            Some("only the registry that was named may be at such an address, or without TLS")
        }
        FetchErrorKind::Folder => {
            Some("make the folder writable for this user only, or name another with --cache")
        }
        FetchErrorKind::Late => Some("give it longer: --timeout SECONDS"),
        _ => None,
    }
}
