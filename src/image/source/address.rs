//! Addresses as texts: what is one, what may be shown of it, what a list beside it names.

use std::path::{Path, PathBuf};

use url::Url;

use super::archive::is_image;
use crate::error::{Error, Result};

pub(crate) fn is_address(text: &str) -> bool {
    is_s3(text) || ["http://", "https://"].iter().any(|scheme| begins(text, scheme))
}

pub(super) fn is_s3(text: &str) -> bool {
    begins(text, "s3://")
}

/// What comes before `://`, where a text begins as an address does.
pub(crate) fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    let is_scheme = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        && scheme.starts_with(|first: char| first.is_ascii_alphabetic());
    is_scheme.then_some(scheme)
}

/// What can be done about an address of a kind that is not read, such as `gs://`; `None` for what is read, and for paths.
pub(super) fn of_unknown_kind(text: &str) -> Option<Error> {
    let scheme = scheme(text).filter(|_| !is_address(text))?.to_ascii_lowercase();
    let instead = match scheme.as_str() {
        "file" => return None,
        "gs" | "gcs" => "what lies in Google's buckets is read at https://storage.googleapis.com/BUCKET/NAME",
        "hf" => "files of Hugging Face are read at https://huggingface.co/datasets/OWNER/NAME/resolve/main/FILE",
        "az" | "adl" | "abfs" | "abfss" | "wasb" | "wasbs" | "azure" => {
            "blobs of Azure are read at their https:// address"
        }
        "s3a" | "s3n" => "write s3://",
        _ => "copy it to this machine first",
    };
    Some(Error::UnknownAddress { address: bare(text), reason: format!("{scheme}{UNREAD}; {instead}") })
}

/// Of a kind of addresses, behind it.
const UNREAD: &str = ":// addresses are not read, but http://, https://, s3:// and file:// ones";

/// An address of any kind without what may give access: user, password, query and fragment.
pub(crate) fn bare(address: &str) -> String {
    let page = address.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = page.split_once("://") else { return page.into() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// The path that a `file:` address means, with its `%20` and the like decoded; `None` for what is none.
///
/// Errors: an address that names another machine, or no file.
pub(crate) fn file(text: &str) -> Option<Result<PathBuf>> {
    let rest = text.get("file:".len()..).filter(|_| begins(text, "file:"))?;
    // a file that is called `file:x` is no address
    if !rest.starts_with('/') {
        return None;
    }
    // a file's name has no query: what looks like one is its own
    let mut written = String::from("file:");
    for letter in rest.chars() {
        match letter {
            '?' => written += "%3F",
            '#' => written += "%23",
            '\\' => written += "%5C",
            letter => written.push(letter),
        }
    }
    let path = Url::parse(&written).ok().and_then(|url| url.to_file_path().ok());
    Some(path.ok_or_else(|| Error::ForeignFile { address: text.into() }))
}

/// The same where a text may be a path or an address of another kind, which are themselves.
pub(crate) fn here(text: &str) -> Result<String> {
    match file(text) {
        Some(path) => Ok(path?.to_string_lossy().into_owned()),
        None => Ok(text.into()),
    }
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

/// Why a list's entry is not looked for: an address of a kind that is not read, or a file of this machine that a list of
/// another one names.
pub(super) fn refused_entry(name: &str) -> Option<String> {
    if let Some(Error::UnknownAddress { reason, .. }) = of_unknown_kind(name) {
        return Some(reason);
    }
    let is_file = scheme(name).is_some_and(|scheme| scheme.eq_ignore_ascii_case("file"));
    is_file.then(|| "it is no file of this machine, or is named by a list at an address, which names none".into())
}

/// A name in a list at an address: never a file of this machine.
pub(super) fn join(list: &str, name: &str) -> String {
    if scheme(name).is_some() {
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
