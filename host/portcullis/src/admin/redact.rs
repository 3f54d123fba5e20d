//! Takes secrets out of documents before they are shown. When in doubt, it hides: a value is judged by its field's
//! name, by the name that stands beside it, and by its form.

use serde_json::{Map, Value};

const REDACTED: &str = "<redacted>";

/// Names that are secret as a whole, in lower case without separators.
const SECRET: &[&str] = &[
    "auth",
    "authorization",
    "cookie",
    "credentialsjson",
    "hmac",
    "jwt",
    "key",
    "keys",
    "passwords",
    "secret",
    "secrets",
    "setcookie",
    "tokens",
];
/// Endings of names that are secret.
const SECRET_ENDINGS: &[&str] = &[
    "accesskey",
    "apikey",
    "apikeys",
    "authorization",
    "clientsecret",
    "credential",
    "credentials",
    "encryptionkey",
    "hmackey",
    "hmacsecret",
    "passphrase",
    "password",
    "passwd",
    "privatekey",
    "pwd",
    "secretkey",
    "sharedsecret",
    "signingkey",
    "token",
];

/// Takes `annotations` and `managedFields` out of every `metadata`, since tools keep whole copies of documents there,
/// and replaces by `<redacted>`, anywhere in `value`:
///
/// - values of fields whose names say so (`password`, `apiKey`, `client_secret`, `token`, `key`, …),
/// - the `value` of an object whose `name` says so (a header `Authorization`), and the `k` of a JWK,
/// - every `value` of a list under `env`, and every scalar of a `pluginConfig`: nobody knows what is in them,
/// - text that holds a PEM private key, that presents itself as credentials (`Bearer …`, `Basic …`), and user and
///   password in a URL.
pub fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => redact_fields(fields),
        Value::Array(elements) => elements.iter_mut().for_each(redact),
        Value::String(text) => redact_text(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn redact_fields(fields: &mut Map<String, Value>) {
    if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
        metadata.remove("annotations");
        metadata.remove("managedFields");
    }
    let named_secret = fields.get("name").and_then(Value::as_str).is_some_and(is_secret);
    let is_jwk = fields.contains_key("kty");
    for (name, value) in fields {
        let hidden =
            is_secret(name) || (name == "value" && named_secret) || (name == "k" && is_jwk);
        match value {
            Value::Null => {}
            _ if hidden => *value = Value::String(REDACTED.to_owned()),
            _ if name == "pluginConfig" => redact_scalars(value),
            Value::Array(variables) if name == "env" => {
                variables.iter_mut().for_each(redact_variable);
            }
            _ => redact(value),
        }
    }
}

/// Leaves the shape, so that it can be compared with what was written.
fn redact_scalars(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(redact_scalars),
        Value::Array(elements) => elements.iter_mut().for_each(redact_scalars),
        Value::Null => {}
        scalar => *scalar = Value::String(REDACTED.to_owned()),
    }
}

fn redact_variable(variable: &mut Value) {
    match variable.get_mut("value") {
        Some(value) => *value = Value::String(REDACTED.to_owned()),
        None => redact(variable),
    }
}

fn is_secret(name: &str) -> bool {
    let plain: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    SECRET.contains(&plain.as_str()) || SECRET_ENDINGS.iter().any(|ending| plain.ends_with(ending))
}

fn redact_text(text: &mut String) {
    let scheme = text.split_whitespace().next().unwrap_or_default();
    let credentials = ["bearer", "basic"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    let key = text.contains("-----BEGIN") && text.contains("PRIVATE KEY");
    if key || (credentials && text.trim().len() > scheme.len()) {
        *text = REDACTED.to_owned();
        return;
    }
    let Some(start) = text.find("://").map(|at| at + "://".len()) else { return };
    let authority = text.get(start..).and_then(|rest| rest.split(['/', '?', '#']).next());
    if let Some(user) = authority.and_then(|authority| authority.rfind('@')) {
        text.replace_range(start..start + user, REDACTED);
    }
}
