//! Which data sets of a folder an experiment takes, and as what.
//!
//! Data sets are found by the names under which people keep them, whatever capitals, dashes and endings: `SVHN/`,
//! `LSUN_resize.tar.gz`, `dtd-r1.0.1.tar.gz`, `cifar-10-python.tar.gz`, as folders, archives or files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::image::Selection;

/// One experiment of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Experiment {
    /// CIFAR-10 against small pictures of other things.
    Cifar10,
    /// ImageNet-1k against photographs of other things.
    Imagenet,
}

impl Experiment {
    /// Its name, that of the ID dataset.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cifar10 => "cifar10",
            Self::Imagenet => "imagenet",
        }
    }

    /// Neighbours counted in the paper.
    pub fn k(self) -> usize {
        match self {
            Self::Cifar10 => 50,
            Self::Imagenet => 1000,
        }
    }

    fn is_id(self, name: &str) -> bool {
        match self {
            Self::Cifar10 => {
                ["cifar10", "cifar10python", "cifar10binary", "cifar10batchespy", "cifar10batchesbin"].contains(&name)
            }
            Self::Imagenet => ["imagenet", "imagenet1k", "ilsvrc2012", "ilsvrc"].contains(&name),
        }
    }
}

/// An OOD set: its name as a dataset, the names it is found under, and the experiments that take it.
struct OodSet {
    dataset: &'static str,
    names: &'static [&'static str],
    cifar10: bool,
    imagenet: bool,
}

const fn set(dataset: &'static str, names: &'static [&'static str], cifar10: bool, imagenet: bool) -> OodSet {
    OodSet { dataset, names, cifar10, imagenet }
}

/// In the order of the paper's tables, then others that are usual.
const OOD_SETS: [OodSet; 14] = [
    set("svhn", &["svhn"], true, false),
    set("lsun", &["lsun", "lsunc", "lsuncrop"], true, false),
    set("lsun_resize", &["lsunr", "lsunresize"], true, false),
    set("lsun_fix", &["lsunfix"], true, false),
    set("isun", &["isun"], true, false),
    set("imagenet_resize", &["imagenetr", "imagenetresize"], true, false),
    set("imagenet_fix", &["imagenetfix"], true, false),
    set("inaturalist", &["inaturalist"], false, true),
    set("sun", &["sun", "sun50"], false, true),
    set("places", &["places", "places50", "places365", "places365standardeasyformat", "val256"], true, true),
    set("textures", &["textures", "texture", "dtd", "dtdr101"], true, true),
    set("tinyimagenet", &["tinyimagenet", "tinyimagenet32", "tin"], true, false),
    set("cifar100", &["cifar100", "cifar100python", "cifar100binary"], true, false),
    set("mnist", &["mnist"], true, false),
];

/// Folders of a data folder in which sets are looked for, besides itself.
const SUBFOLDERS: [&str; 5] = ["datasets", "ood", "ood_data", "ood_datasets", "id"];
/// OOD images taken of a larger set, as the reference takes of Places365.
pub const OOD_IMAGES: usize = 10_000;
/// Of each of SVHN's digits, as the reference takes them.
const SVHN_PER_DIGIT: usize = 1000;

/// One thing to ingest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// `images.dataset`.
    pub dataset: String,
    /// `images.split`.
    pub split: &'static str,
    /// What holds its images.
    pub paths: Vec<PathBuf>,
    /// Which of them.
    pub selection: Selection,
}

/// What a folder has for an experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The ID images: the bank's.
    pub train: Part,
    /// The ID images that are compared.
    pub test: Part,
    /// At least one OOD set.
    pub ood: Vec<Part>,
    /// Names of the OOD sets that are not there.
    pub missing: Vec<&'static str>,
}

/// Find an experiment's data sets in a folder. `seed` is that of the samples drawn from large OOD sets.
///
/// Errors: [`Error::NoBenchmarkData`] where the ID images or every OOD set is missing.
pub fn plan(experiment: Experiment, folder: &Path, seed: u64) -> Result<Plan> {
    let missing_data = |what: String| Error::NoBenchmarkData { folder: folder.into(), what };
    let found = candidates(folder)?;
    let id = found.iter().find(|(name, _)| experiment.is_id(name)).map(|(_, path)| path.clone());
    let name = experiment.name();
    let Some(id) = id.or_else(|| (experiment == Experiment::Imagenet).then(|| folder.to_path_buf())) else {
        return Err(missing_data(format!("{name}, as a folder or as its authors distribute it")));
    };
    let of_split = |split: &'static str, prefixes: &[&str]| -> Result<Part> {
        let mut paths = if id.is_dir() { starting_with(&id, prefixes)? } else { Vec::new() };
        if paths.is_empty() && experiment == Experiment::Cifar10 {
            paths.push(id.clone()); // a distribution, which comes in parts
        }
        if paths.is_empty() {
            return Err(missing_data(format!("a folder or archive '{}' in {}", prefixes.join("' or '"), id.display())));
        }
        let selection = Selection { part: Some(split.into()), ..Selection::default() };
        Ok(Part { dataset: name.into(), split, paths, selection })
    };
    let (train, test) = (of_split("train", &["train"])?, of_split("test", &["test", "val"])?);
    let (mut ood, mut missing) = (Vec::new(), Vec::new());
    for set in OOD_SETS.iter().filter(|set| if experiment == Experiment::Cifar10 { set.cifar10 } else { set.imagenet })
    {
        let Some((_, path)) = found.iter().find(|(name, path)| set.names.contains(&name.as_str()) && **path != id)
        else {
            missing.push(set.dataset);
            continue;
        };
        let per_class = (set.dataset == "svhn").then_some(SVHN_PER_DIGIT);
        let (part, sample) = (Some("test".into()), Some(OOD_IMAGES));
        let selection = Selection { part, or_all_parts: true, per_class, sample, seed, ..Selection::default() };
        ood.push(Part { dataset: set.dataset.into(), split: "test", paths: vec![path.clone()], selection });
    }
    if ood.is_empty() {
        return Err(missing_data(format!("any of the OOD sets {}", missing.join(", "))));
    }
    Ok(Plan { train, test, ood, missing })
}

/// Whether a dataset of this name is one of the OOD sets that are tested with, under any of the names people give it.
pub fn is_test_set(dataset: &str) -> bool {
    let name = normalised(dataset);
    OOD_SETS.iter().any(|set| normalised(set.dataset) == name || set.names.contains(&name.as_str()))
}

/// What lies in the folder and in those inside it that hold data sets, by normalised name; the first of a name counts.
fn candidates(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut folders = vec![folder.to_path_buf()];
    let mut found = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for path in children(&folder)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && SUBFOLDERS.contains(&name.to_ascii_lowercase().as_str()) {
                folders.push(path);
            } else {
                found.entry(normalised(&name)).or_insert(path);
            }
        }
    }
    Ok(found)
}

/// What lies in a folder, by name.
pub(super) fn children(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

/// Children of a folder whose names start so: `train`, `train.tar`, `train-0.tar.gz`; only the first prefix that some
/// start with counts.
fn starting_with(folder: &Path, prefixes: &[&str]) -> Result<Vec<PathBuf>> {
    let children = children(folder)?;
    let starts = |path: &&PathBuf, prefix: &str| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let rest = name.strip_prefix(prefix);
        // train and test without an end are batches of CIFAR-100
        rest.is_some_and(|rest| (rest.is_empty() && path.is_dir()) || rest.starts_with(['.', '-']))
            && !name.ends_with(".bin")
    };
    let of = |prefix: &&str| children.iter().filter(|path| starts(path, prefix)).cloned().collect::<Vec<_>>();
    Ok(prefixes.iter().map(of).find(|paths| !paths.is_empty()).unwrap_or_default())
}

/// A name without its endings, capitals, dashes and dots.
fn normalised(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    let ends = [".tar.gz", ".tgz", ".tar", ".zip", ".parquet"];
    let stem = ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    stem.chars().filter(char::is_ascii_alphanumeric).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            if name.ends_with('/') {
                fs::create_dir_all(path).unwrap();
            } else {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, b"").unwrap();
            }
        }
        folder
    }

    #[test]
    fn data_sets_are_found_as_people_keep_them() {
        let data = folder(&[
            "datasets/cifar-10-python.tar.gz",
            "datasets/ood_datasets/SVHN/test_32x32.mat",
            "datasets/ood_datasets/LSUN_resize/",
            "datasets/ood_datasets/dtd-r1.0.1.tar.gz",
            "datasets/ood_datasets/textures-fullsize.tar",
            "iSUN.tar.gz",
        ]);
        let plan = plan(Experiment::Cifar10, data.path(), 3).unwrap();
        assert_eq!(plan.train.paths, [data.path().join("datasets/cifar-10-python.tar.gz")]);
        assert_eq!((plan.test.split, plan.test.selection.part.as_deref()), ("test", Some("test")));
        let sets: Vec<&str> = plan.ood.iter().map(|part| part.dataset.as_str()).collect();
        assert_eq!(sets, ["svhn", "lsun_resize", "isun", "textures"]);
        assert_eq!((plan.ood[0].selection.per_class, plan.ood[0].selection.seed), (Some(1000), 3));
        assert!(plan.missing.contains(&"places") && !plan.missing.contains(&"inaturalist"), "{:?}", plan.missing);
    }

    #[test]
    fn id_images_in_folders_and_archives_of_their_own() {
        let data = folder(&[
            "cifar10/train-0.tar.gz",
            "cifar10/train-1.tar.gz",
            "cifar10/test.tar.gz",
            "cifar10/training-notes.txt",
            "ood/places.tar",
        ]);
        let cifar = plan(Experiment::Cifar10, data.path(), 0).unwrap();
        assert_eq!(
            cifar.train.paths,
            ["train-0.tar.gz", "train-1.tar.gz"].map(|name| data.path().join("cifar10").join(name))
        );
        let data = folder(&["train/n01/", "val/n01/", "ood_data/Places/", "ood_data/iNaturalist/", "ood_data/mnist/"]);
        let imagenet = plan(Experiment::Imagenet, data.path(), 0).unwrap();
        assert_eq!(imagenet.test.paths, [data.path().join("val")]);
        assert_eq!(
            imagenet.ood.iter().map(|part| part.dataset.as_str()).collect::<Vec<_>>(),
            ["inaturalist", "places"]
        );
    }

    #[test]
    fn test_sets_are_known_by_their_names() {
        assert!(["LSUN-resize", "textures", "dtd", "Places365"].into_iter().all(is_test_set));
        assert!(!["food101", "ood", "camera_7"].into_iter().any(is_test_set));
    }

    #[test]
    fn what_is_missing_is_named() {
        let data = folder(&["ood/places.tar"]);
        let error = plan(Experiment::Cifar10, data.path(), 0).unwrap_err().to_string();
        assert!(error.contains("cifar10, as a folder"), "{error}");
        let error = plan(Experiment::Imagenet, data.path(), 0).unwrap_err().to_string();
        assert!(error.contains("'train'"), "{error}");
        let data = folder(&["cifar10/train.tar", "cifar10/test.tar"]);
        let error = plan(Experiment::Cifar10, data.path(), 0).unwrap_err().to_string();
        assert!(error.contains("any of the OOD sets svhn, lsun"), "{error}");
    }
}
