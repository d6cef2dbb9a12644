//! Addresses as texts: what is one, what may be shown of it, what a list beside it names.

use std::path::Path;

use url::Url;

use super::archive::is_image;

pub(crate) fn is_address(text: &str) -> bool {
    is_s3(text) || ["http://", "https://"].iter().any(|scheme| begins(text, scheme))
}

pub(super) fn is_s3(text: &str) -> bool {
    begins(text, "s3://")
}

fn begins(text: &str, scheme: &str) -> bool {
    text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

/// A path that is an address.
pub(super) fn of(path: &Path) -> Option<&str> {
    path.to_str().filter(|text| is_address(text))
}

/// Bucket and key.
pub(super) fn s3(text: &str) -> Option<(&str, &str)> {
    let rest = &text[is_s3(text).then_some("s3://".len())?..];
    Some(rest.split_once('/').unwrap_or((rest, "")))
}

/// Host, or bucket, with what stands before an `@`. More slashes than two, of either kind, are two to those who open it.
pub(super) fn authority(text: &str) -> &str {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let rest = if is_s3(text) { rest } else { rest.trim_start_matches(['/', '\\']) };
    &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())]
}

/// What of an address's query is kept in the uri of its image: parameters by their names, and of others nothing, for
/// nobody can list all that gives access (`sig`, `token`, `hdnea`, …). By default nothing is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptQuery(Kept);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kept {
    Parameters(Vec<String>),
    All,
}

impl Default for Kept {
    fn default() -> Self {
        Self::Parameters(Vec::new())
    }
}

impl KeptQuery {
    /// The parameters of these names, in their own case.
    pub fn parameters(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(Kept::Parameters(names.into_iter().map(Into::into).collect()))
    }

    /// Uris as they are: those that a table has kept.
    pub(super) fn all() -> Self {
        Self(Kept::All)
    }

    /// Whether uris are a table's.
    pub(super) fn is_of_a_table(&self) -> bool {
        self.0 == Kept::All
    }

    /// The uri of what lies at an address (or inside a file there): without user, password and fragment, and of the
    /// query what is kept. A path, and an address of S3, which has no query, is its own.
    pub fn uri(&self, text: &str) -> String {
        let Kept::Parameters(names) = &self.0 else { return text.into() };
        if !is_address(text) {
            return text.into();
        }
        let authority = authority(text);
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let text = text.replacen(authority, host, 1);
        if is_s3(&text) {
            return text;
        }
        let (address, inside) = text.split_at(inside(&text).unwrap_or(text.len()));
        let (page, query) = parts(address);
        let kept = query.split('&').filter(|parameter| names.contains(&name_of(parameter)));
        let kept = kept.collect::<Vec<_>>().join("&");
        if kept.is_empty() { format!("{page}{inside}") } else { format!("{page}?{kept}{inside}") }
    }
}

/// An address for messages: without user, password, query and fragment. Everything else is its own.
pub fn shown(uri: &str) -> String {
    KeptQuery::default().uri(uri)
}

/// Where the name inside the file at an address begins, with its `!/`. What stands in a picture's query is its query.
pub(super) fn inside(address: &str) -> Option<usize> {
    let at = address.find("!/")?;
    let page = address.split(['?', '#']).next().unwrap_or_default();
    (at < page.len() || !is_image(page.as_ref())).then_some(at)
}

/// What stands before an address's query, and the query, without the fragment behind both.
fn parts(address: &str) -> (&str, &str) {
    let whole = address.split('#').next().unwrap_or_default();
    whole.split_once('?').unwrap_or((whole, ""))
}

/// A parameter's name, as its server reads it.
fn name_of(parameter: &str) -> String {
    url::form_urlencoded::parse(parameter.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}

/// The parameters in which two addresses differ, by name. A text without `=` may be a secret itself, and is no name.
pub(super) fn differing(one: &str, other: &str) -> Vec<String> {
    let (one, other) = (parts(one).1, parts(other).1);
    let only = |these: &str, those: &str| -> Vec<String> {
        let differ =
            these.split('&').filter(|part| part.contains('=') && !those.split('&').any(|known| known == *part));
        differ.map(name_of).collect()
    };
    let mut names = [only(one, other), only(other, one)].concat();
    names.sort();
    names.dedup();
    names
}

/// Why an address is not read at all.
pub(super) fn refusal(text: &str) -> Option<String> {
    if authority(text).contains('@') {
        Some(
            "it carries a user's name or password, which are not kept: leave them out (of S3, they go into AWS_*)"
                .into(),
        )
    } else if authority(text).is_empty() {
        Some("it names no host or bucket".into())
    } else {
        None
    }
}

/// The name of the file, which says what it is.
pub(super) fn name(text: &str) -> String {
    let page = if is_s3(text) { text } else { text.split(['?', '#']).next().unwrap_or_default() };
    page.trim_end_matches('/').rsplit('/').next().unwrap_or_default().into()
}

/// A name in a list at an address: never a file of this machine.
pub(super) fn join(list: &str, name: &str) -> String {
    if is_address(name) {
        return name.into();
    }
    match s3(list) {
        Some((bucket, key)) => {
            let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
            let mut parts: Vec<&str> = if name.starts_with('/') { Vec::new() } else { folder.split('/').collect() };
            for part in name.split('/') {
                match part {
                    "" | "." => {}
                    ".." => drop(parts.pop()),
                    part => parts.push(part),
                }
            }
            parts.retain(|part| !part.is_empty());
            format!("s3://{bucket}/{}", parts.join("/"))
        }
        // the name of a file, not a query: its ? and # are its own
        None => Url::parse(list)
            .and_then(|list| list.join(&name.replace('?', "%3F").replace('#', "%23")))
            .map_or_else(|_| name.into(), String::from),
    }
}
