//! `portcullis push`: ships a module.

use std::path::PathBuf;

use super::push_config_map::{self, ConfigMapArgs};
use super::{Exit, Outcome, push_image, registry};
use crate::diagnose::{Code, Problem};
use crate::plan::CONFIG_MAP;
use crate::term::Term;

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to: an image, such as ghcr.io/acme/canary:1.2, or configmap://NAMESPACE/NAME/KEY
    #[arg(value_name = "REFERENCE")]
    pub reference: String,
    /// A Wasm module
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// How to speak to the registry.
    #[command(flatten)]
    pub registry: registry::Args,
    /// How to speak to the cluster.
    #[command(flatten)]
    pub cluster: ConfigMapArgs,
}

/// Ships it; the last line of the result is the pinned reference.
pub fn run(args: &Args, term: &Term) -> Outcome {
    if args.reference.starts_with(CONFIG_MAP) {
        return push_config_map::run(&args.reference, &args.file, &args.cluster);
    }
    if args.cluster.wait.is_some() {
        let title = "--wait is for configmap://, which proxies watch";
        let problem = Problem::new(Code::P0111, title);
        let hint =
            "put the pinned reference into a document, and wait with `portcullis status --wait`";
        return Outcome::failed(Exit::Invalid, problem.hint(hint));
    }
    push_image::run(&args.reference, &args.file, &args.registry, term)
}
