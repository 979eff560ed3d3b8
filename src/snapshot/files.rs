//! Weights in safetensors files, one or several, read through a memory map.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::SafeTensors;
use serde::Deserialize;

use super::weight::InFile;
use super::{Dtype, Numbers, SnapshotError, Weight, WeightInfo, Weights};

/// The file that lists which shard holds which weight.
pub const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";

/// The weights of a model folder, mapped and checked, none of them read yet.
#[derive(Debug)]
pub struct WeightFiles {
    shards: Vec<Shard>,
    places: BTreeMap<String, (usize, Range<usize>)>,
    infos: BTreeMap<String, WeightInfo>,
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

impl WeightFiles {
    /// Maps `model.safetensors`, or every shard of `model.safetensors.index.json`.
    ///
    /// # Errors
    ///
    /// A file is missing, cut off or lies about its contents, or the index and the shards disagree.
    pub fn open(folder: &Path) -> Result<Self, SnapshotError> {
        let index = folder.join(INDEX);
        if !index.is_file() {
            return Self::open_file(&folder.join(SINGLE));
        }
        let listed: Index = read_json(&index)?;
        let mut shards: Vec<&String> = listed.weight_map.values().collect();
        shards.sort();
        shards.dedup();
        let mut files = Self::empty();
        for shard in shards {
            let plain = Path::new(shard).file_name().is_some_and(|name| name == shard.as_str());
            if !plain || shard.contains(['/', '\\']) {
                return Err(SnapshotError::BadShardName { path: index, shard: shard.clone() });
            }
            files.add(&folder.join(shard))?;
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
        files.add(path)?;
        Ok(files)
    }

    /// The files, in the order they were mapped.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.shards.iter().map(|shard| shard.path.as_path())
    }

    /// Bytes that all weights take on disk.
    pub fn bytes(&self) -> u64 {
        self.infos.values().map(|info| info.bytes() as u64).sum()
    }

    fn empty() -> Self {
        Self { shards: Vec::new(), places: BTreeMap::new(), infos: BTreeMap::new() }
    }

    fn add(&mut self, path: &Path) -> Result<(), SnapshotError> {
        if !path.is_file() {
            let help = "fetch the missing file; only safetensors weights are read";
            return Err(SnapshotError::MissingFile { path: path.to_owned(), help });
        }
        let unreadable = |source| SnapshotError::Unreadable { path: path.to_owned(), source };
        let file = File::open(path).map_err(unreadable)?;
        #[expect(unsafe_code, reason = "a memory map; the base is read-only to this program")]
        // SAFETY: the map is only read; a file that another program cuts while it is mapped is
        // outside what any reader of large checkpoints can guard against.
        let map = unsafe { Mmap::map(&file) }.map_err(unreadable)?;
        let bad = |why: String| SnapshotError::BadSafetensors { path: path.to_owned(), why };
        let tensors = SafeTensors::deserialize(&map).map_err(|error| bad(describe(&error, map.len())))?;
        let shard = self.shards.len();
        for (name, view) in tensors.iter() {
            let dtype = Dtype::from_safetensors(view.dtype()).ok_or_else(|| SnapshotError::BadDtype {
                name: name.to_owned(),
                found: format!("{:?}", view.dtype()),
            })?;
            let start = view.data().as_ptr() as usize - map.as_ptr() as usize;
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

pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, SnapshotError> {
    let text =
        std::fs::read(path).map_err(|source| SnapshotError::Unreadable { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|source| SnapshotError::BadJson { path: path.to_owned(), source })
}

/// The safetensors files of a folder, by name: a model's or an adapter's.
///
/// # Errors
///
/// The folder cannot be read.
pub fn files_of(folder: &Path) -> Result<Vec<PathBuf>, SnapshotError> {
    let unreadable = |source| SnapshotError::Unreadable { path: folder.to_owned(), source };
    let entries = std::fs::read_dir(folder).map_err(unreadable)?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
    let mut paths = paths.map_err(unreadable)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    paths.sort();
    Ok(paths)
}
