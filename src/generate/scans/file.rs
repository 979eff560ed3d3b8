//! Directions, reference and how they came about, in one safetensors file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde::{Deserialize, Serialize};

use super::{Scans, Settings};
use crate::folders;
use crate::snapshot::SnapshotError;
use crate::snapshot::digest::of_bytes;
use crate::snapshot::writer::file_at_once;

/// The key of its metadata, which say how it came about.
const MADE: &str = "finetune_steer";
/// The version of what stands there.
const SCHEMA: u32 = 1;
/// Its tensors.
const VECTORS: &str = "vectors";
const REFERENCE: &str = "unsafe_reference";
/// More bytes than the vectors of any model.
const MOST_BYTES: u64 = 1 << 30;

/// What a file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct File {
    pub scans: Scans,
    pub about: About,
}

/// What directions were fitted on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// The model as it was named, and which of a run's it is: `base`, `tuned` or `model`.
    pub model: String,
    pub which: String,
    /// The digest of what decides the base's weights, and of what decides those that were read.
    pub base: String,
    pub weights: String,
    /// Of the chat template; none where there is none.
    pub template_sha256: Option<String>,
    /// Where a prompt ends, in words.
    pub prompt_end: String,
    /// What drew anchors from their files.
    pub seed: u64,
    /// SHA-256 of the files of anchors, by name.
    pub files: BTreeMap<String, String>,
    /// Anchors of the directions and those of the threshold: harmful, harmless.
    pub anchors: [usize; 2],
    pub held_out: [usize; 2],
    /// How well the score tells the held-out anchors apart; none where the threshold was given.
    pub auroc: Option<f64>,
    /// A digest of each anchor's normalised text: no test set may hold one.
    pub texts: BTreeSet<String>,
}

/// A text without what does not tell prompts apart: the case, marks and blanks.
pub fn normalised(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ").to_lowercase()
}

/// The digest by which a file remembers an anchor.
pub fn digest_of(text: &str) -> String {
    of_bytes(normalised(text).as_bytes())[..32].to_owned()
}

impl File {
    /// Writes it, whole or not at all.
    ///
    /// # Errors
    ///
    /// The disk refuses.
    pub fn write(&self, path: &Path) -> Result<(), SnapshotError> {
        let Scans { vectors, reference, settings } = &self.scans;
        let bytes =
            |rows: &[Vec<f32>]| rows.iter().flatten().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let shape = vec![vectors.len(), vectors.first().map_or(0, Vec::len)];
        let (vectors, reference) = (bytes(vectors), bytes(reference));
        let view = |data| {
            TensorView::new(safetensors::Dtype::F32, shape.clone(), data)
                .expect("rows of one length are a tensor")
        };
        let made = Made { schema: SCHEMA, settings: settings.clone(), about: self.about.clone() };
        let made = serde_json::to_string(&made).expect("settings are plain data");
        // One key alone: several would stand in any order.
        let metadata = HashMap::from([(MADE.to_owned(), made)]);
        let tensors = [(VECTORS, view(&vectors)), (REFERENCE, view(&reference))];
        let bytes = safetensors::serialize(tensors, Some(metadata)).expect("two tensors have a header");
        file_at_once(path, &bytes)
    }

    /// Reads one.
    ///
    /// # Errors
    ///
    /// It is not there, or what is there was not written by [`File::write`]: the second says why.
    pub fn read(path: &Path) -> Result<Self, Unread> {
        let bytes = folders::read(path, MOST_BYTES).map_err(Unread::Disk)?;
        Self::of(&bytes).map_err(Unread::Wrong)
    }

    fn of(bytes: &[u8]) -> Result<Self, String> {
        let broken = |error: safetensors::SafeTensorError| error.to_string();
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let made = metadata.get(MADE).ok_or_else(|| format!("its metadata have no `{MADE}`"))?;
        let Made { schema, settings, about } =
            serde_json::from_str(made).map_err(|error| format!("`{MADE}` of its metadata: {error}"))?;
        if schema != SCHEMA {
            return Err(format!("its schema is {schema}, and this version knows {SCHEMA}"));
        }
        let tensors = SafeTensors::deserialize(bytes).map_err(broken)?;
        let rows = |name: &str| {
            let tensor = tensors.tensor(name).map_err(broken)?;
            match (tensor.dtype(), tensor.shape()) {
                (safetensors::Dtype::F32, [n, m]) if *n > 0 && *m > 0 => {
                    let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("four bytes"));
                    let numbers: Vec<f32> = tensor.data().chunks_exact(4).map(number).collect();
                    match numbers.iter().all(|x| x.is_finite()) {
                        true => Ok(numbers.chunks(*m).map(<[f32]>::to_vec).collect::<Vec<_>>()),
                        false => Err(format!("`{name}` has numbers that are not finite")),
                    }
                }
                (dtype, shape) => Err(format!("`{name}` is {dtype:?} {shape:?}, and no f32 table")),
            }
        };
        let (vectors, reference) = (rows(VECTORS)?, rows(REFERENCE)?);
        let n = vectors.len();
        if reference.len() != n || reference[0].len() != vectors[0].len() {
            return Err(format!("`{VECTORS}` and `{REFERENCE}` are of other shapes"));
        }
        for [from, to] in [settings.layers, settings.score_layers] {
            if from > to || to >= n {
                return Err(format!("it has {n} layers, and layers {from} to {to} are meant"));
            }
        }
        if !(settings.alpha.is_finite() && settings.alpha >= 0.0 && settings.threshold.is_finite()) {
            return Err("its α is below 0, or its threshold is no number".to_owned());
        }
        Ok(Self { scans: Scans { vectors, reference, settings }, about })
    }
}

/// The metadata.
#[derive(Serialize, Deserialize)]
struct Made {
    schema: u32,
    settings: Settings,
    about: About,
}

/// Why a file cannot be read.
#[derive(Debug)]
pub enum Unread {
    Disk(std::io::Error),
    Wrong(String),
}

#[cfg(test)]
mod tests {
    use super::super::tests::settings;
    use super::*;

    fn file() -> File {
        let rows = vec![vec![0.6, 0.8], vec![-1.0, 0.0]];
        File {
            scans: Scans { vectors: rows.clone(), reference: rows, settings: settings(2) },
            about: About {
                model: "m".to_owned(),
                which: "base".to_owned(),
                base: "b".to_owned(),
                weights: "w".to_owned(),
                template_sha256: None,
                prompt_end: "its last token".to_owned(),
                seed: 1,
                files: BTreeMap::from([("a.csv".to_owned(), "00".to_owned())]),
                anchors: [2, 3],
                held_out: [4, 5],
                auroc: Some(0.75),
                texts: BTreeSet::from([digest_of("How do I?")]),
            },
        }
    }

    #[test]
    fn a_file_reads_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("steer.safetensors");
        file().write(&path).unwrap();
        assert_eq!(File::read(&path).unwrap(), file());
        file().write(&folder.path().join("again")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(folder.path().join("again")).unwrap());
    }

    #[test]
    fn what_is_no_such_file_is_refused_with_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("steer.safetensors");
        let wrong = |file: File| {
            file.write(&path).unwrap();
            match File::read(&path) {
                Err(Unread::Wrong(why)) => why,
                other => panic!("{other:?}"),
            }
        };
        let mut layers = file();
        layers.scans.settings.layers = [1, 2];
        assert_eq!(wrong(layers), "it has 2 layers, and layers 1 to 2 are meant");
        let mut numbers = file();
        numbers.scans.vectors[1][0] = f32::NAN;
        assert_eq!(wrong(numbers), "`vectors` has numbers that are not finite");
        let mut alpha = file();
        alpha.scans.settings.alpha = -1.0;
        assert!(wrong(alpha).starts_with("its α is below 0"));
        std::fs::write(&path, b"not a table").unwrap();
        assert!(matches!(File::read(&path), Err(Unread::Wrong(_))));
        assert!(matches!(File::read(&folder.path().join("none")), Err(Unread::Disk(_))));
    }

    #[test]
    fn case_marks_and_blanks_tell_no_anchors_apart() {
        assert_eq!(normalised("  How do I,\n kill a\tprocess? "), "how do i kill a process");
        assert_eq!(digest_of("How do I?"), digest_of("how DO i"));
        assert_ne!(digest_of("How do I?"), digest_of("How do you?"));
    }
}
