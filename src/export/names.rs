//! Names of folders and splits out of what users wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;

/// The folder of images without a label.
pub(super) const UNLABELLED: &str = "unlabelled";
/// Bytes of a folder's name at most: longer ones end in a hash.
const LONGEST: usize = 150;
/// Names that Windows keeps for devices, whatever follows a dot.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "com", "lpt"];

/// A folder's name for each label: the label itself where it can be one, else with bytes written as `%2F`. No two are the same,
/// also where upper and lower case or the encodings of an accent are; none leads out of its folder.
pub(super) fn folders(labels: &BTreeSet<String>) -> BTreeMap<String, String> {
    let mut taken = BTreeSet::from([UNLABELLED.to_owned()]);
    let mut found = BTreeMap::new();
    let mut order: Vec<&String> = labels.iter().collect();
    // of two that differ in case, the one in small letters keeps its spelling
    order.sort_by_key(|label| folded(label) != **label);
    for label in order {
        let readable = encoded(label, is_harmless);
        // of two that a file system may take for one, the later one is written out
        let strict =
            || encoded(label, |byte, _| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte));
        let candidates = [Some(readable).filter(|name| !is_device(name)), Some(strict()), Some(written_out(label))];
        let fitting = candidates.into_iter().flatten().map(|name| shortened(name, label));
        for name in fitting {
            if taken.insert(folded(&name)) {
                found.insert(label.clone(), name);
                break;
            }
        }
    }
    found
}

/// As a file system may see a name that knows no case.
fn folded(name: &str) -> String {
    name.nfc().collect::<String>().to_lowercase()
}

fn is_harmless(byte: u8, is_end: bool) -> bool {
    let is_dot_or_blank = byte == b'.' || byte == b' ';
    byte >= 0x20 && byte != 0x7f && !b"/\\:*?\"<>|%".contains(&byte) && !(is_end && is_dot_or_blank)
}

/// Each byte that is not `kept` as `%2F`; it is told of each whether it is the first or last one.
fn encoded(label: &str, kept: impl Fn(u8, bool) -> bool) -> String {
    let last = label.len().saturating_sub(1);
    let mut bytes = Vec::with_capacity(label.len());
    for (at, byte) in label.bytes().enumerate() {
        if kept(byte, at == 0 || at == last) {
            bytes.push(byte);
        } else {
            bytes.extend(format!("%{byte:02X}").bytes());
        }
    }
    // letters beyond ASCII are kept whole or not at all
    String::from_utf8(bytes).unwrap_or_else(|_| written_out(label))
}

/// Every byte as `%2F`.
fn written_out(label: &str) -> String {
    label.bytes().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "%{byte:02X}");
        text
    })
}

fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let bare = stem.trim_end_matches(|last: char| last.is_ascii_digit());
    DEVICES.contains(&bare) && stem.len() - bare.len() < 2
}

/// A long name as its beginning, and a hash of the label: `~` behind `%` stands in no other name.
fn shortened(name: String, label: &str) -> String {
    if name.len() <= LONGEST {
        return name;
    }
    let hash = format!("{:x}", Sha256::digest(label));
    let most = LONGEST - 20;
    let end = (0..=most).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    format!("{}%~{}", name[..end].trim_end_matches(['.', ' ']), &hash[..16])
}

/// A name for each split that `datasets` takes and that names a folder: letters, digits and `_`.
pub(super) fn splits(splits: &BTreeSet<String>) -> BTreeMap<String, String> {
    // `all` is all of them
    let mut taken = BTreeSet::from(["all".to_owned()]);
    let mut found = BTreeMap::new();
    for split in splits {
        let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
        let mut name: String = split.chars().take(60).map(plain).collect();
        if name.is_empty() {
            name = "unsplit".into();
        }
        let (base, mut number) = (name.clone(), 1);
        while !taken.insert(name.to_lowercase()) {
            number += 1;
            name = format!("{base}_{number}");
        }
        found.insert(split.clone(), name);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(labels: &[&str]) -> BTreeMap<String, String> {
        folders(&labels.iter().map(|label| (*label).to_owned()).collect())
    }

    #[test]
    fn no_label_leads_anywhere_and_no_two_share_a_folder() {
        let long = "ä".repeat(400);
        let other = format!("{long}b");
        let labels = [
            "cat",
            "Cat",
            "CAT",
            "..",
            ".",
            "../../etc",
            "/etc/passwd",
            "a/b",
            "a\\b",
            ".hidden",
            "a.",
            "a ",
            " a",
            "a%2Fb",
            "%",
            "\0",
            "x\ny",
            "con",
            "NUL.txt",
            "com1",
            "concert",
            "unlabelled",
            "Unlabelled",
            "caf\u{e9}",
            "cafe\u{301}",
            "Straße",
            "ID",
            "id",
            "日本",
            &long,
            &other,
            "%43at",
        ];
        let found = of(&labels);
        assert_eq!(found.len(), labels.len());
        let folded: BTreeSet<String> = found.values().map(|name| super::folded(name)).collect();
        assert_eq!(folded.len(), labels.len(), "{found:?}");
        for (label, name) in &found {
            assert!(
                !name.is_empty() && name.len() <= LONGEST && !name.starts_with('.') && !name.ends_with(['.', ' ']),
                "{name}"
            );
            assert!(
                !name.contains(['/', '\\', '\0', '\n', ':']) && name.to_lowercase() != UNLABELLED,
                "{label}: {name}"
            );
        }
        assert_eq!(
            (&*found["cat"], &*found["日本"], &*found["a/b"], &*found["Straße"]),
            ("cat", "日本", "a%2Fb", "Straße")
        );
        assert_eq!((&*found["CAT"], &*found["concert"], &*found[".hidden"]), ("%43%41%54", "concert", "%2Ehidden"));
        // a name says its label again, but for those that were too long
        for (label, name) in found.iter().filter(|(label, _)| label.len() < 100) {
            let mut bytes = Vec::new();
            let mut rest = name.as_bytes();
            while let [first, after @ ..] = rest {
                if *first == b'%' {
                    bytes.push(u8::from_str_radix(std::str::from_utf8(&after[..2]).unwrap(), 16).unwrap());
                    rest = &after[2..];
                } else {
                    bytes.push(*first);
                    rest = after;
                }
            }
            assert_eq!(String::from_utf8(bytes).unwrap(), *label);
        }
    }

    #[test]
    fn splits_have_names_that_readers_take() {
        let found = splits(&["train", "Train", "cam 7", "cam-7", "", "../x", "all"].map(str::to_owned).into());
        let names: Vec<&str> = found.values().map(String::as_str).collect();
        assert_eq!(names, ["unsplit", "___x", "Train", "all_2", "cam_7", "cam_7_2", "train_2"]);
    }
}
