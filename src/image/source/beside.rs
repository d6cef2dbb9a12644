//! What lies beside pictures and is left alone, by what its names end in.

use std::collections::BTreeMap;

/// Endings that a line names.
const SHOWN: usize = 8;

/// Formats of pictures that are not read.
const OTHER_PICTURES: [&str; 16] =
    ["avif", "heic", "heif", "jxl", "jp2", "j2k", "psd", "svg", "ico", "hdr", "exr", "dds", "qoi", "dng", "cr2", "nef"];

/// Files by what their names end in, and how many of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Beside(BTreeMap<String, usize>);

impl Beside {
    /// Count a file.
    pub(super) fn see(&mut self, name: &str) {
        let name = name.rsplit('/').next().unwrap_or(name);
        let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
        let is_ending = |ending: &String| {
            (1..=10).contains(&ending.len()) && ending.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        *self.0.entry(ending.filter(is_ending).unwrap_or_default()).or_default() += 1;
    }

    /// Count all of another.
    pub(super) fn add(&mut self, other: &Self) {
        for (ending, count) in &other.0 {
            *self.0.entry(ending.clone()).or_default() += count;
        }
    }

    /// In a line, the most frequent first: `12 .txt, 3 .heic (pictures that are not read: convert them)`; `None` of nothing.
    pub(super) fn describe(&self) -> Option<String> {
        let mut counts: Vec<(&String, &usize)> = self.0.iter().collect();
        counts.sort_by_key(|(ending, count)| (std::cmp::Reverse(**count), (*ending).clone()));
        let name = |(ending, count): &(&String, &usize)| match ending.as_str() {
            "" => format!("{count} without an ending"),
            ending if OTHER_PICTURES.contains(&ending) => {
                format!("{count} .{ending} (pictures that are not read: convert them)")
            }
            "zip" | "tar" | "tgz" | "gz" => format!("{count} .{ending} (archives inside: give them by themselves)"),
            ending => format!("{count} .{ending}"),
        };
        let mut shown: Vec<String> = counts.iter().take(SHOWN).map(name).collect();
        let left: usize = counts.iter().skip(SHOWN).map(|(_, count)| **count).sum();
        if left > 0 {
            shown.push(format!("{left} others"));
        }
        (!shown.is_empty()).then(|| shown.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_alone_is_counted_by_its_ending() {
        let mut beside = Beside::default();
        assert_eq!(beside.describe(), None);
        for name in ["a/1.txt", "2.TXT", "3.heic", "a.b/LICENSE", "x.zip", "strange.ending with blanks"] {
            beside.see(name);
        }
        let said = "2 .txt, 2 without an ending, 1 .heic (pictures that are not read: convert them), 1 .zip (archives inside: \
                    give them by themselves)";
        assert_eq!(
            beside.describe().unwrap(),
            said.replace("2 .txt, 2 without an ending", "2 without an ending, 2 .txt")
        );
        (0..12).for_each(|ending| beside.see(&format!("x.e{ending}")));
        let described = beside.describe().unwrap();
        assert!(described.ends_with("8 others"), "{described}");
    }
}
