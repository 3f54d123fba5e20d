//! What verbs that speak to a registry have in common: how it is spoken to, and who we are.
//!
//! The registry is one that a person typed, and so may be on this machine or in a private network.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::diagnose::{Code, Problem};
use crate::fetch::oci::{Credentials, Reference};
use crate::fetch::stored_bytes;
use crate::plan::Registry;

const FILE_BYTES: u64 = 1 << 20;

/// What was typed.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Speak to the registry without TLS
    #[arg(long, conflicts_with = "ca_file")]
    pub plain_http: bool,
    /// Who signs the registry's certificate, in PEM [default: the public authorities]
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// A docker config [default: config.json in $DOCKER_CONFIG or ~/.docker]
    #[arg(long, value_name = "FILE")]
    pub credentials: Option<PathBuf>,
    /// How long it may take
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
}

impl Args {
    /// How to speak to the registry of `image`, and nobody else.
    ///
    /// # Errors
    /// A file that was named cannot be read.
    pub fn registries(&self, image: &Reference) -> Result<Arc<[Registry]>, Box<Problem>> {
        let ca = self.ca_file.as_deref().map(read).transpose()?;
        let credentials = match (&self.credentials, usual_credentials()) {
            (Some(named), _) => Some(read(named)?),
            // One that nobody named need not be there, and a helper may have what it does not hold.
            (None, usual) => usual
                .and_then(|usual| stored_bytes(&usual, FILE_BYTES).ok())
                .filter(|config| Credentials::of(config, image).is_ok()),
        };
        Ok(Arc::new([Registry {
            plain_http: self.plain_http,
            ca: ca.map(Bytes::from),
            credentials: credentials.map(Bytes::from),
            timeout: Duration::from_secs(self.timeout),
            ..Registry::new(image.registry.as_str())
        }]))
    }

    /// Who we are for an image's registry.
    ///
    /// # Errors
    /// The docker config is none.
    pub fn credentials(
        &self,
        registries: &[Registry],
        image: &Reference,
    ) -> Result<Option<Credentials>, Box<Problem>> {
        let config = registries.iter().find_map(|registry| registry.credentials.as_deref());
        let found = config.map(|config| Credentials::of(config, image)).transpose();
        found.map(Option::flatten).map_err(|problem| {
            let title = "the docker config cannot be used";
            let hint = "`skopeo login --authfile FILE HOST` writes one with the password in it, for \
                        --credentials FILE";
            Box::new(Problem::new(Code::P0405, title).because(problem).hint(hint))
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Box<Problem>> {
    stored_bytes(path, FILE_BYTES).map_err(|problem| {
        let title = format!("cannot read {}", path.display());
        Box::new(Problem::new(Code::P0401, title).because(problem.to_string()))
    })
}

fn usual_credentials() -> Option<PathBuf> {
    let folder = env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let folder = folder.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".docker")));
    folder.map(|folder| folder.join("config.json"))
}
