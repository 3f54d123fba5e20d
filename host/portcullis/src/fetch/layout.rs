//! Which layer of an image holds the module. Decided by media types; where those say nothing, `unpack` looks at the
//! content.

use super::error::{FetchError, FetchErrorKind};
use super::oci::{Descriptor, Manifest, Reference, media};

/// What a blob has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A module, as it is.
    Module,
    /// A tar archive, possibly compressed, with a `plugin.wasm`.
    Archive,
    /// Either, or a compressed module.
    Any,
}

const MODULES: [&str; 3] = [media::WASM, media::MODULE_WASM, media::WASM_TO_OCI];
const ARCHIVES: [&str; 3] = [media::OCI_TAR_GZIP, media::DOCKER_TAR_GZIP, media::OCI_TAR];

/// The layer with the module: the first that says it is one (wasm-to-oci and CNCF have no other, Istio's variant of two
/// layers has its configuration before it); else the last, as container images are built.
///
/// # Errors
/// There is no layer.
pub fn module_layer<'a>(
    image: &Reference,
    manifest: &'a Manifest,
) -> Result<(&'a Descriptor, Shape), FetchError> {
    let is = |kinds: &[&str], layer: &Descriptor| {
        let kind = layer.media_type.split(';').next().unwrap_or_default().trim();
        kinds.contains(&kind)
    };
    if let Some(layer) = manifest.layers.iter().find(|layer| is(&MODULES, layer)) {
        return Ok((layer, Shape::Module));
    }
    match manifest.layers.last() {
        Some(layer) if is(&ARCHIVES, layer) => Ok((layer, Shape::Archive)),
        Some(layer) => Ok((layer, Shape::Any)),
        None => {
            let title = format!("{image} has no module");
            Err(FetchError::new(FetchErrorKind::Layout, title, "it has no layers"))
        }
    }
}
