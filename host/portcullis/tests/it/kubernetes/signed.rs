//! Signatures of modules in ConfigMaps: under the key beside the module's, as beside a file.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, SigningKey as _};
use serde_json::json;

use super::modules::{stamp, stamped};
use super::{Cluster, judged, source};
use crate::program::eventually;

const FILTER: &str = "apiVersion: portcullis.dev/v1alpha1\nkind: WasmFilter\n\
    metadata: {name: stamp}\nspec: {url: \"configmap:///filter/stamp.wasm\", \
    verification: {publicKeyFiles: [cosign.pub]}}\n";

#[test]
fn a_module_in_a_config_map_needs_the_signature_beside_it() {
    let (cluster, key) = (Cluster::new(), KeyPair::generate().unwrap());
    let signature = |module: &[u8]| STANDARD.encode(key.sign(module).unwrap());
    let put = |module: &[u8], signature: &str| {
        let data = json!({
            "f.yaml": FILTER,
            "cosign.pub": key.public_key_pem(),
            "stamp.wasm.sig": signature,
        });
        let binary = json!({"stamp.wasm": STANDARD.encode(module)});
        cluster.api.put_map("shop", "filter", json!({"data": data, "binaryData": binary}))
    };
    put(&stamp('a'), &signature(&stamp('a')));
    let app = cluster.app();
    assert_eq!(stamped(&app), Some('a'));

    let version = put(&stamp('b'), &signature(&stamp('a')));
    judged(&app, "shop/filter", &version);
    let shown = source(&app, "configmap://shop/filter")["problem"].clone();
    assert_eq!((&shown["code"], stamped(&app)), (&json!("P0213"), Some('a')), "{shown}");
    put(&stamp('b'), &signature(&stamp('b')));
    eventually(|| stamped(&app) == Some('b'));
}
