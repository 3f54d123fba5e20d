//! What the name of a guest's metric means: the ABI knows no labels, so filters write them into names. Three ways to do
//! so are read; what is none of them is a name without labels.
//!
//! - Prometheus': `hits{tier="gold",zone="a"}`
//! - Istio's: `tier=.=gold;.;zone=.=a;.;hits`, where parts without `=.=` are the name
//! - Envoy's custom: `hits_tier=gold_zone=a`; a label's name has no `_`, its value may
//!
//! Names come out as Prometheus wants them. Knows nothing of values.

/// A metric's name and its labels, sorted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Named {
    /// Of letters, digits and `_`.
    pub name: String,
    /// Names as of metrics, unique, none of those that we add; values as they are.
    pub labels: Vec<(String, String)>,
}

/// Labels of ours, and those that Prometheus gives a meaning.
const RESERVED: [&str; 5] = ["filter", "le", "quantile", "overflow", "__name__"];

impl Named {
    /// Reads the name that a guest gives.
    pub fn of(raw: &str) -> Named {
        let read = [prometheus, istio, envoy].into_iter().find_map(|read| read(raw));
        let (name, labels) = read.unwrap_or((raw.to_owned(), Vec::new()));
        let mut labels: Vec<_> =
            labels.into_iter().map(|(name, value)| (label(&name), value)).collect();
        labels.sort();
        labels.dedup_by(|later, kept| later.0 == kept.0);
        Named { name: sanitised(&name), labels }
    }
}

type Parts = (String, Vec<(String, String)>);

fn prometheus(raw: &str) -> Option<Parts> {
    let (name, mut rest) = raw.strip_suffix('}')?.split_once('{')?;
    let mut labels = Vec::new();
    while !rest.is_empty() {
        let (label, quoted) = rest.split_once("=\"")?;
        let (value, after) = unquote(quoted)?;
        labels.push((label.trim().to_owned(), value));
        rest = match after.trim_start() {
            "" => "",
            more => more.strip_prefix(',')?.trim_start(),
        };
    }
    Some((name.to_owned(), labels))
}

/// Up to the closing quote, and what stands behind it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

fn istio(raw: &str) -> Option<Parts> {
    if !raw.contains("=.=") {
        return None;
    }
    let (mut name, mut labels) = (String::new(), Vec::new());
    for part in raw.split(";.;") {
        match part.split_once("=.=") {
            Some((label, value)) => labels.push((label.to_owned(), value.to_owned())),
            None => name.push_str(part),
        }
    }
    // Istio writes `…;.;_istio_requests_total`.
    let name = name.trim_matches('_');
    (!name.is_empty()).then(|| (name.to_owned(), labels))
}

fn envoy(raw: &str) -> Option<Parts> {
    let mut parts = raw.split('=').peekable();
    let (name, mut label) = parts.next()?.rsplit_once('_')?;
    let mut labels = Vec::new();
    while let Some(part) = parts.next() {
        if label.is_empty() || !label.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return None;
        }
        let (value, next) = match parts.peek() {
            Some(_) => part.rsplit_once('_')?,
            None => (part, ""),
        };
        labels.push((label.to_owned(), value.to_owned()));
        label = next;
    }
    (!labels.is_empty() && !name.is_empty()).then(|| (name.to_owned(), labels))
}

fn label(name: &str) -> String {
    let name = sanitised(name);
    let digit = name.starts_with(|first: char| first.is_ascii_digit());
    if name.is_empty() || digit || name.starts_with("__") || RESERVED.contains(&name.as_str()) {
        return format!("exported_{name}");
    }
    name
}

fn sanitised(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}
