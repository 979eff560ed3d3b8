//! Weights in safetensors files, one or several, read through a memory map.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::SafeTensors;
use serde::Deserialize;

use super::weight::InFile;
use super::{Dtype, Numbers, SnapshotError, Weight, WeightInfo, Weights};
use crate::doing;
use crate::folders;

/// The file that lists which shard holds which weight.
pub const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";

/// Which files of a folder hold a model's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `model.safetensors` alone.
    Single,
    /// The shards of `model.safetensors.index.json`.
    Sharded,
}

/// The layout of a folder, or of a repository, that has these files, as transformers chooses: the single file
/// where it is there, whatever an index beside it says; of two saves into one folder it may be either.
pub fn layout(has: impl Fn(&str) -> bool) -> Layout {
    if has(SINGLE) || !has(INDEX) { Layout::Single } else { Layout::Sharded }
}

/// Whether `file` of a repository with this layout may hold weights of the model, by its name.
///
/// Others repeat the weights in another layout (`consolidated.safetensors`) or format.
pub fn may_hold_weights(file: &str, layout: Layout) -> bool {
    match layout {
        Layout::Single => file == SINGLE,
        Layout::Sharded => file.starts_with("model") && file.ends_with(".safetensors") && !file.contains('/'),
    }
}

/// The weights of a model folder, mapped and checked, none of them read yet.
#[derive(Debug)]
pub struct WeightFiles {
    /// The shards of another save in the same folder, which are not read.
    unread: Vec<String>,
    shards: Vec<Shard>,
    places: BTreeMap<String, (usize, Range<usize>)>,
    infos: BTreeMap<String, WeightInfo>,
    /// Arrays of bytes, which are no weights.
    bytes: BTreeMap<String, (usize, Range<usize>)>,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: File,
    map: Mmap,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Index {
    /// The files that it lists, each once.
    fn shards(&self) -> BTreeSet<&str> {
        self.weight_map.values().map(String::as_str).collect()
    }
}

/// The shards that lie beside the single file of a folder. A stale index may be broken and may list what is gone.
fn other_shards(folder: &Path) -> Vec<String> {
    let Ok(listed) = read_json::<Index>(&folder.join(INDEX)) else { return Vec::new() };
    let there = |shard: &&str| *shard != SINGLE && folder.join(shard).is_file();
    listed.shards().into_iter().filter(there).map(str::to_owned).collect()
}

impl WeightFiles {
    /// Maps `model.safetensors`, or without one every shard of `model.safetensors.index.json`.
    ///
    /// # Errors
    ///
    /// A file is missing, cut off or lies about its contents, or the index and the shards disagree.
    pub fn open(folder: &Path) -> Result<Self, SnapshotError> {
        let index = folder.join(INDEX);
        if layout(|file| folder.join(file).is_file()) == Layout::Single {
            let files = Self::open_file(&folder.join(SINGLE))?;
            return Ok(Self { unread: other_shards(folder), ..files });
        }
        let listed: Index = read_json(&index)?;
        let mut files = Self::empty();
        for shard in listed.shards() {
            let plain = Path::new(shard).file_name().is_some_and(|name| name == shard);
            if !plain || shard.contains(['/', '\\']) {
                return Err(SnapshotError::BadShardName { path: index, shard: shard.to_owned() });
            }
            files.add(&folder.join(shard), false)?;
        }
        files.check_index(&listed)?;
        Ok(files)
    }

    /// Maps one safetensors file.
    ///
    /// # Errors
    ///
    /// The file is missing, cut off or lies about its contents.
    pub fn open_file(path: &Path) -> Result<Self, SnapshotError> {
        let mut files = Self::empty();
        files.add(path, false)?;
        Ok(files)
    }

    /// As [`Self::open_file`], of a file that may also hold arrays of bytes: what an optimizer remembers in 8 bits.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn open_with_bytes(path: &Path) -> Result<Self, SnapshotError> {
        let mut files = Self::empty();
        files.add(path, true)?;
        Ok(files)
    }

    /// The names of the arrays of bytes.
    pub fn names_of_bytes(&self) -> impl Iterator<Item = &str> {
        self.bytes.keys().map(String::as_str)
    }

    /// An array of bytes.
    pub fn bytes_of(&self, name: &str) -> Option<&[u8]> {
        let (shard, range) = self.bytes.get(name)?;
        Some(&self.shards[*shard].map[range.clone()])
    }

    /// The files, in the order they were mapped.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.shards.iter().map(|shard| shard.path.as_path())
    }

    /// A sentence, if other weights lie in the same folder and are not read.
    pub fn unread(&self) -> Option<String> {
        let (first, path) = (self.unread.first()?, &self.shards.first()?.path);
        let folder = path.parent().unwrap_or(path).display();
        Some(format!(
            "`{folder}` holds two sets of weights: `{SINGLE}` is read, as transformers does; `{INDEX}` and its shards \
            (`{first}`{}) are not",
            if self.unread.len() > 1 { ", …" } else { "" }
        ))
    }

    /// Bytes that all weights take on disk.
    pub fn bytes(&self) -> u64 {
        self.infos.values().map(|info| info.bytes() as u64).sum()
    }

    fn empty() -> Self {
        let (places, infos, bytes) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { unread: Vec::new(), shards: Vec::new(), places, infos, bytes }
    }

    fn add(&mut self, path: &Path, with_bytes: bool) -> Result<(), SnapshotError> {
        if !path.is_file() {
            let help = "fetch the missing file; only safetensors weights are read";
            return Err(SnapshotError::MissingFile { path: path.to_owned(), help });
        }
        let _doing = doing::now(format!("reading `{}`", path.display()));
        let unreadable = |source| SnapshotError::Unreadable { path: path.to_owned(), source };
        let file = folders::open(path).map_err(unreadable)?;
        #[expect(unsafe_code, reason = "a memory map; the base is read-only to this program")]
        // SAFETY: the map is only read; a file that another program cuts while it is mapped is
        // outside what any reader of large checkpoints can guard against.
        let map = unsafe { Mmap::map(&file) }.map_err(unreadable)?;
        let bad = |why: String| SnapshotError::BadSafetensors { path: path.to_owned(), why };
        let tensors = SafeTensors::deserialize(&map).map_err(|error| bad(describe(&error, map.len())))?;
        let shard = self.shards.len();
        for (name, view) in tensors.iter() {
            let start = view.data().as_ptr() as usize - map.as_ptr() as usize;
            if with_bytes && view.dtype() == safetensors::Dtype::U8 {
                self.bytes.insert(name.to_owned(), (shard, start..start + view.data().len()));
                continue;
            }
            let dtype = Dtype::from_safetensors(view.dtype()).ok_or_else(|| SnapshotError::BadDtype {
                name: name.to_owned(),
                found: format!("{:?}", view.dtype()),
            })?;
            let info = WeightInfo { shape: view.shape().to_vec(), dtype };
            if self.infos.insert(name.to_owned(), info).is_some() {
                return Err(bad(format!("weight `{name}` is in another shard too")));
            }
            self.places.insert(name.to_owned(), (shard, start..start + view.data().len()));
        }
        self.shards.push(Shard { path: path.to_owned(), file, map });
        Ok(())
    }

    fn stored(&self, name: &str) -> Result<InFile<'_>, SnapshotError> {
        let (Some((shard, range)), Some(info)) = (self.places.get(name), self.infos.get(name)) else {
            let place =
                self.shards.first().map_or_else(String::new, |shard| shard.path.display().to_string());
            return Err(SnapshotError::MissingWeight {
                name: name.to_owned(),
                place,
                help: "is this the checkpoint that `config.json` describes?".to_owned(),
            });
        };
        let Shard { file, map, .. } = &self.shards[*shard];
        let weight = Weight { info: info.clone(), bytes: Cow::Borrowed(&map[range.clone()]) };
        Ok(InFile { weight, file, at: range.start as u64 })
    }

    fn check_index(&self, listed: &Index) -> Result<(), SnapshotError> {
        let file_name =
            |shard: usize| self.shards[shard].path.file_name().unwrap_or_default().to_string_lossy();
        for (name, shard) in &listed.weight_map {
            let found = match self.places.get(name) {
                Some((found, _)) if file_name(*found) == shard.as_str() => continue,
                Some((found, _)) => format!("lies in `{}`", file_name(*found)),
                // A head that is the embedding is listed by some savers and stored by none; who needs it misses it.
                None if name == "lm_head.weight" => continue,
                None => "is not there".to_owned(),
            };
            return Err(SnapshotError::IndexMismatch { name: name.clone(), listed: shard.clone(), found });
        }
        match self.places.keys().find(|name| !listed.weight_map.contains_key(*name)) {
            Some(name) => Err(SnapshotError::IndexMismatch {
                name: name.clone(),
                listed: "no shard".to_owned(),
                found: format!("lies in `{}`", file_name(self.places[name].0)),
            }),
            None => Ok(()),
        }
    }
}

impl Weights for WeightFiles {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        self.stored(name).map(|stored| stored.weight)
    }

    fn numbers(&self, name: &str) -> Result<Numbers<'_>, SnapshotError> {
        self.stored(name).map(Numbers::InFile)
    }
}

/// In words, what is wrong with a safetensors file of `len` bytes.
fn describe(error: &safetensors::SafeTensorError, len: usize) -> String {
    use safetensors::SafeTensorError as E;
    match error {
        E::HeaderTooSmall | E::InvalidHeaderLength => {
            format!("it ends inside its header ({len} bytes)")
        }
        E::HeaderTooLarge => "its header claims more than 100 MB".to_owned(),
        E::InvalidHeader(_) | E::InvalidHeaderDeserialization(_) | E::JsonError(_) => {
            format!("its header is not valid JSON ({error})")
        }
        E::MetadataIncompleteBuffer => {
            format!("its header describes more or fewer bytes than it has ({len})")
        }
        E::InvalidOffset(name) => format!("the place of weight `{name}` overlaps another or leaves a gap"),
        E::TensorInvalidInfo => "a weight's shape does not fit its bytes".to_owned(),
        E::ValidationOverflow => "a weight's shape is larger than any memory".to_owned(),
        other => other.to_string(),
    }
}

/// A file's text without the mark of UTF-8 that Windows' editors put before it.
pub(crate) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes)
}

/// More than the report of a study of a thousand candidates, or the index of the largest model, has.
const JSON_BYTES: u64 = 256 << 20;

pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, SnapshotError> {
    let _doing = doing::now(format!("reading `{}`", path.display()));
    let text = folders::read(path, JSON_BYTES)
        .map_err(|source| SnapshotError::Unreadable { path: path.to_owned(), source })?;
    serde_json::from_slice(without_mark(&text))
        .map_err(|source| SnapshotError::BadJson { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;

    fn weights(folder: &Path, file: &str, name: &str, value: f32) {
        let bytes = value.to_le_bytes();
        let view = TensorView::new(safetensors::Dtype::F32, vec![1], &bytes).unwrap();
        std::fs::write(folder.join(file), safetensors::serialize([(name, view)], None).unwrap()).unwrap();
    }

    fn index(folder: &Path, entries: &str) {
        std::fs::write(folder.join(INDEX), format!(r#"{{"weight_map": {{{entries}}}}}"#)).unwrap();
    }

    fn value(files: &WeightFiles) -> f32 {
        files.weight("w").unwrap().to_f32()[0]
    }

    #[test]
    fn of_two_sets_of_weights_the_single_file_is_read_and_the_other_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        weights(folder, "model-00001-of-00001.safetensors", "w", 1.0);
        index(folder, r#""w": "model-00001-of-00001.safetensors""#);
        let shards = WeightFiles::open(folder).unwrap();
        assert_eq!((value(&shards), shards.unread()), (1.0, None));

        weights(folder, SINGLE, "w", 2.0);
        let single = WeightFiles::open(folder).unwrap();
        assert_eq!(value(&single), 2.0);
        assert_eq!(single.paths().collect::<Vec<_>>(), [folder.join(SINGLE)]); // What digests are made of.
        let said = single.unread().unwrap();
        assert!(said.contains("(`model-00001-of-00001.safetensors`) are not"), "{said}");
    }

    #[test]
    fn a_stale_index_alone_is_no_reason_to_fail() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        weights(folder, SINGLE, "w", 2.0);
        for entries in
            [r#""w": "gone.safetensors""#, r#""v": "model.safetensors""#, r#""w": "../x""#, "", "broken"]
        {
            index(folder, entries);
            let single = WeightFiles::open(folder).unwrap();
            assert_eq!((value(&single), single.unread()), (2.0, None), "{entries}");
        }
        std::fs::remove_file(folder.join(SINGLE)).unwrap();
        index(folder, r#""w": "gone.safetensors""#);
        let missing = WeightFiles::open(folder).unwrap_err();
        assert!(
            matches!(missing, SnapshotError::MissingFile { path, .. } if path.ends_with("gone.safetensors"))
        );
    }
}
