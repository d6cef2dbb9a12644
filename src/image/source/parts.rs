//! Parts of data sets, by the names of files and folders: `train-00000-of-00002.parquet`, `mnist-test.parquet`, a folder `val`.

use std::collections::BTreeSet;

use super::format::Entry;

/// The words for a part that data sets use.
const WORDS: [(&str, &str); 13] = [
    ("train", "train"),
    ("training", "train"),
    ("trn", "train"),
    ("test", "test"),
    ("testing", "test"),
    ("tst", "test"),
    ("t10k", "test"),
    ("validation", "validation"),
    ("valid", "validation"),
    ("val", "validation"),
    ("dev", "validation"),
    ("extra", "extra"),
    ("unlabeled", "unlabeled"),
];

/// The name of a part, as one may write it; `None` for one of one's own.
pub(super) fn named(word: &str) -> Option<&'static str> {
    // train2017, val-0
    let word = word.to_ascii_lowercase();
    let word = word.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '-' | '_' | '.'));
    WORDS.iter().find(|(known, _)| *known == word).map(|(_, part)| *part)
}

/// The part that a data set's file is by its name: the first of its words that names one.
pub(super) fn of_file(name: &str) -> Option<&'static str> {
    let stem = name.split('.').next().unwrap_or_default();
    stem.split(|c: char| !c.is_ascii_alphanumeric()).find_map(named)
}

/// Whether folders side by side are parts of a data set, and not classes of which one is called so: two of them are different
/// parts.
pub(super) fn are_parts<'a>(folders: impl Iterator<Item = &'a str>) -> bool {
    folders.filter_map(named).collect::<BTreeSet<_>>().len() > 1
}

/// The part of each member of an archive: by the first of its folders that stand for parts.
pub(super) fn of_members(members: &[Entry]) -> Vec<Option<&'static str>> {
    fn folder(member: &Entry, level: usize) -> Option<&str> {
        let mut folders = member.name.split('/');
        let found = folders.nth(level)?;
        folders.next().map(|_| found)
    }
    for level in 0.. {
        let folders: BTreeSet<&str> = members.iter().filter_map(|member| folder(member, level)).collect();
        if folders.is_empty() {
            break;
        }
        if are_parts(folders.iter().copied()) {
            return members.iter().map(|member| folder(member, level).and_then(named)).collect();
        }
        if folders.len() > 1 {
            break;
        }
    }
    vec![None; members.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_from_classes() {
        for (name, part) in [
            ("train-00000-of-00002.parquet", Some("train")),
            ("mnist-train.parquet", Some("train")),
            ("val-0.parquet", Some("validation")),
            ("emnist-letters-train-images-idx3-ubyte.gz", Some("train")),
            ("t10k-images-idx3-ubyte", Some("test")),
            ("qmnist-test-images-idx3-ubyte", Some("test")),
            ("0000.parquet", None),
            ("trains.parquet", None),
        ] {
            assert_eq!(of_file(name), part, "{name}");
        }
        let parts = |folders: &[&str]| are_parts(folders.iter().copied());
        assert!(parts(&["train", "test"]) && parts(&["train2017", "val2017", "annotations"]));
        assert!(
            !parts(&["cat", "dog", "train"])
                && !parts(&["cat", "dog"])
                && !parts(&["train"])
                && !parts(&["train", "train_1", "tram"])
        );
        let of = |names: &[&str]| of_members(&names.iter().map(|name| Entry::new(*name, 0, 0)).collect::<Vec<_>>());
        assert_eq!(of(&["d/train/cat/1.png", "d/Test/2.png"]), [Some("train"), Some("test")]);
        assert_eq!(of(&["d/cat/1.png", "d/train/2.png", "3.png"]), [None, None, None]);
        assert_eq!(of(&["1.png", "2.png"]), [None, None]);
    }
}
