//! Addresses as texts: what is one, what may be shown of it, what a list beside it names.

use std::path::Path;

use url::Url;

pub(super) fn is_address(text: &str) -> bool {
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

/// Host, or bucket: what stands between the slashes.
pub(super) fn authority(text: &str) -> &str {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())]
}

/// A uri as tables and messages have it: an address without user, password, and whatever of its query signs it, which
/// soon is worth nothing and would make another image of the same file. Everything else is its own.
pub fn shown(uri: &str) -> String {
    if !is_address(uri) {
        return uri.into();
    }
    let authority = authority(uri);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let uri = uri.replacen(authority, host, 1);
    if is_s3(&uri) {
        return uri;
    }
    let (address, inside) = uri.split_at(uri.find("!/").unwrap_or(uri.len()));
    let Some((page, query)) = address.split_once('?') else { return uri };
    let name = |part: &&str| part.split('=').next().unwrap_or_default().to_ascii_lowercase();
    let azure = query.split('&').any(|part| name(&part) == "sig");
    let kept: Vec<&str> = query.split('&').filter(|part| !is_secret(&name(part), azure)).collect();
    if kept.is_empty() { format!("{page}{inside}") } else { format!("{page}?{}{inside}", kept.join("&")) }
}

/// Whether a parameter of a query gives access, or belongs to what does.
fn is_secret(name: &str, azure: bool) -> bool {
    let named = [
        "signature",
        "awsaccesskeyid",
        "googleaccessid",
        "key-pair-id",
        "policy",
        "expires",
        "token",
        "access_token",
        "auth_token",
        "api_key",
        "apikey",
    ];
    let of_azure =
        ["sig", "se", "sp", "sr", "st", "sv", "spr", "ss", "srt", "skoid", "sktid", "skt", "ske", "sks", "skv"];
    ["x-amz-", "x-goog-"].iter().any(|start| name.starts_with(start))
        || named.contains(&name)
        || azure && of_azure.contains(&name)
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
