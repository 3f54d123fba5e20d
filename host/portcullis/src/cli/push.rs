//! `portcullis push`: ships a module.

use std::path::PathBuf;

use super::{Outcome, push_image, registry};
use crate::term::Term;

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to: an image, such as ghcr.io/acme/canary:1.2
    #[arg(value_name = "REFERENCE")]
    pub reference: String,
    /// A Wasm module
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// How to speak to the registry.
    #[command(flatten)]
    pub registry: registry::Args,
}

/// Ships it; the last line of the result is the pinned reference.
pub fn run(args: &Args, term: &Term) -> Outcome {
    push_image::run(&args.reference, &args.file, &args.registry, term)
}
