//! Any weights to a model folder in the Hugging Face layout, whole or not at all.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::Path;

use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::{Map, Value, json};

use super::rights::readable;
use super::segments::Segments;
use super::{Dtype, Fill, SnapshotError, Weights, copy_of, files};

/// Shards are at most this large, as Hugging Face writes them.
pub const SHARD_BYTES: u64 = 5_000_000_000;

const GENERATION: &str = "generation_config.json";

/// Files that travel from the base to every model made of it.
pub const SIDE_FILES: &[&str] = &[
    GENERATION,
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    // Of models that see or hear.
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
];

/// Makes `target` appear whole: `fill` writes into a folder beside it that is renamed at the end.
///
/// # Errors
///
/// `target` is there and not empty, the disk refuses, or `fill` fails.
pub fn folder_at_once<E: From<SnapshotError>>(
    target: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let unwritable = |source| SnapshotError::Unwritable { path: target.to_owned(), source };
    must_be_free(target)?;
    let parent = parent(target);
    fs::create_dir_all(parent).map_err(unwritable)?;
    let beside = tempfile::Builder::new().prefix(".new-").tempdir_in(parent).map_err(unwritable)?;
    fill(beside.path())?;
    settle(&beside.keep(), target)?;
    Ok(())
}

/// Renames a filled folder to its place once all of it is on the disk.
///
/// # Errors
///
/// The disk refuses.
pub fn settle(filled: &Path, target: &Path) -> Result<(), SnapshotError> {
    let unwritable = |source| SnapshotError::Unwritable { path: target.to_owned(), source };
    for entry in fs::read_dir(filled).map_err(unwritable)?.flatten() {
        if let Ok(file) = File::open(entry.path()) {
            file.sync_all().map_err(unwritable)?;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            readable(&entry.path(), 0o644).map_err(unwritable)?;
        }
    }
    // An empty folder of that name may be there; a rename replaces it.
    readable(filled, 0o755).and_then(|()| fs::rename(filled, target)).map_err(unwritable)?;
    File::open(parent(target)).and_then(|folder| folder.sync_all()).map_err(unwritable)
}

/// The folder that `path` lies in.
pub fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// That nothing is at `target` that would be lost.
///
/// # Errors
///
/// A folder that is not empty, or a file, is there.
pub fn must_be_free(target: &Path) -> Result<(), SnapshotError> {
    let free = fs::read_dir(target).map_or(!target.exists(), |mut entries| entries.next().is_none());
    if free { Ok(()) } else { Err(SnapshotError::TargetExists { path: target.to_owned() }) }
}

/// Opens no link: a folder may be a stranger's, and its links lead where the stranger likes.
#[cfg(target_os = "linux")]
pub fn no_links(options: &mut fs::OpenOptions) -> &mut fs::OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
}
#[cfg(not(target_os = "linux"))]
pub fn no_links(options: &mut fs::OpenOptions) -> &mut fs::OpenOptions {
    options
}

/// Writes one file beside its place and renames it there. Only its owner may read it.
///
/// # Errors
///
/// The disk refuses.
pub fn file_at_once(path: &Path, contents: &[u8]) -> Result<(), SnapshotError> {
    use std::io::Write;
    let unwritable = |source| SnapshotError::Unwritable { path: path.to_owned(), source };
    let parent = parent(path);
    fs::create_dir_all(parent).map_err(unwritable)?;
    let mut file = tempfile::NamedTempFile::new_in(parent).map_err(unwritable)?;
    file.write_all(contents).and_then(|()| file.as_file().sync_all()).map_err(unwritable)?;
    file.persist(path).map_err(|error| unwritable(error.error))?;
    Ok(())
}

/// Writes weights to one safetensors file, each computed when its turn comes.
///
/// # Errors
///
/// A weight cannot be computed or the disk refuses.
pub fn write_file(
    path: &Path,
    weights: &dyn Weights,
    names: &[&str],
    dtype: Option<Dtype>,
) -> Result<(), SnapshotError> {
    write_safetensors(path, weights, names, dtype, false).map(|_| ())
}

/// As [`write_file`], and gives the file's BLAKE3 if `digest`.
///
/// # Errors
///
/// As there.
pub fn write_safetensors(
    path: &Path,
    weights: &dyn Weights,
    names: &[&str],
    dtype: Option<Dtype>,
    digest: bool,
) -> Result<Option<blake3::Hash>, SnapshotError> {
    let unwritable = |source| SnapshotError::Unwritable { path: path.to_owned(), source };
    let other = |error: String| unwritable(io::Error::other(error));
    // Wide formats first, then by name, as safetensors' own writer orders them.
    let of = |name: &str| dtype.unwrap_or(weights.infos()[name].dtype);
    let mut names = names.to_vec();
    names.sort_by_key(|name| (Reverse(of(name).to_safetensors()), *name));
    let (mut tensors, mut end) = (Vec::new(), 0);
    for name in &names {
        let (shape, start) = (weights.infos()[*name].shape.clone(), end);
        end += weights.infos()[*name].n_elements() * of(name).size();
        let info = TensorInfo { dtype: of(name).to_safetensors(), shape, data_offsets: (start, end) };
        tensors.push(((*name).to_owned(), info));
    }
    let starts: Vec<usize> = tensors.iter().map(|(_, info)| info.data_offsets.0).collect();
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let metadata = Metadata::new(Some(format), tensors).map_err(|error| other(error.to_string()))?;
    let mut header = serde_json::to_vec(&metadata).map_err(|error| other(error.to_string()))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let length = (header.len() as u64).to_le_bytes();
    let first = length.len() + header.len();

    let file = Segments::create(path, first + end, digest).map_err(unwritable)?;
    let start = [&length, header.as_slice()].concat();
    file.put(0..first, &mut copy_of(&start)).map_err(unwritable)?;
    for (name, start) in names.iter().zip(starts) {
        let put = |Range { start: from, end: to }: Range<usize>, fill: Fill<'_>| {
            file.put(first + start + from..first + start + to, fill).map_err(unwritable)
        };
        weights.write_to(name, of(name), &put)?;
    }
    file.finish().map_err(unwritable)
}

/// Writes a whole model folder: weights in shards, `config.json` and the base's tokenizer files.
///
/// `dtype` is the format of every weight; `None` keeps each one's own. `finish` adds what else belongs
/// into the folder. Heads that share the
/// embedding in `weights` stay shared, for the configuration is the base's.
///
/// # Errors
///
/// The target is not empty, a weight cannot be computed or the disk refuses.
pub fn write_model(
    target: &Path,
    weights: &dyn Weights,
    base: &Path,
    dtype: Option<Dtype>,
    finish: impl FnOnce(&Path) -> Result<(), SnapshotError>,
) -> Result<(), SnapshotError> {
    folder_at_once(target, |folder| {
        let shards = shards(weights, dtype, SHARD_BYTES);
        for Shard { file, names, .. } in &shards {
            write_file(&folder.join(file), weights, names, dtype)?;
        }
        write_index(folder, &shards)?;
        write_config(folder, base, |config| set_dtype(config, dtype))?;
        copy_side_files(base, folder)?;
        finish(folder)
    })
}

/// Writes `config.json`: the base's, changed by `edit`.
///
/// # Errors
///
/// The base's cannot be read or the disk refuses.
pub fn write_config(
    folder: &Path,
    base: &Path,
    edit: impl FnOnce(&mut Map<String, Value>),
) -> Result<(), SnapshotError> {
    let mut config: Map<String, Value> = files::read_json(&base.join("config.json"))?;
    edit(&mut config);
    write_json(&folder.join("config.json"), &Value::Object(config))
}

/// Says in a configuration which format the weights have, in transformers 5's words.
pub fn set_dtype(config: &mut Map<String, Value>, dtype: Option<Dtype>) {
    if let Some(dtype) = dtype {
        config.remove("torch_dtype");
        config.insert("dtype".to_owned(), json!(dtype.hugging_face_name()));
    }
}

/// Copies tokenizer, template and generation settings of the base.
///
/// # Errors
///
/// A file cannot be read or written.
pub fn copy_side_files(base: &Path, folder: &Path) -> Result<(), SnapshotError> {
    SIDE_FILES.iter().try_for_each(|name| copy_if_there(name, base, folder))
}

/// Makes a chat template, or none, that of a folder, in the place of what it had under any of the names that readers
/// look for.
///
/// # Errors
///
/// A file cannot be read or written.
pub fn set_template(folder: &Path, text: Option<&str>) -> Result<(), SnapshotError> {
    let path = folder.join("tokenizer_config.json");
    if path.is_file() {
        let mut config: Map<String, Value> = files::read_json(&path)?;
        if config.shift_remove("chat_template").is_some() {
            write_json(&path, &Value::Object(config))?;
        }
    }
    let own = folder.join("chat_template.jinja");
    let gone = [Some(folder.join("chat_template.json")), text.is_none().then(|| own.clone())];
    for old in gone.into_iter().flatten().filter(|old| old.is_file()) {
        fs::remove_file(&old).map_err(|source| SnapshotError::Unwritable { path: old, source })?;
    }
    match text {
        Some(text) if fs::read(&own).ok().as_deref() != Some(text.as_bytes()) => {
            file_at_once(&own, text.as_bytes())
        }
        _ => Ok(()),
    }
}

/// Copies the base's generation settings where a folder has none: adapters are saved without.
///
/// # Errors
///
/// A file cannot be read or written.
pub fn copy_generation_settings(base: &Path, folder: &Path) -> Result<(), SnapshotError> {
    match folder.join(GENERATION).is_file() {
        true => Ok(()),
        false => copy_if_there(GENERATION, base, folder),
    }
}

fn copy_if_there(name: &str, base: &Path, to: &Path) -> Result<(), SnapshotError> {
    let (from, to) = (base.join(name), to.join(name));
    if from.is_file() {
        stays(&from, base)?;
        fs::copy(&from, &to).map_err(|source| SnapshotError::Unwritable { path: to, source })?;
    }
    Ok(())
}

/// That no file beside a model's weights is a link to somewhere else: it would be copied into what people publish.
///
/// # Errors
///
/// One leads out of its folder, and out of the hub's cache if the folder lies in one.
pub fn check_side_files(base: &Path) -> Result<(), SnapshotError> {
    let there = SIDE_FILES.iter().map(|name| base.join(name)).filter(|path| path.is_file());
    there.into_iter().try_for_each(|path| stays(&path, base))
}

/// That a file of `folder` lies there, or where the hub's cache keeps what its snapshots link to:
/// `models--ORG--NAME/snapshots/COMMIT/FILE` is a link into `models--ORG--NAME/blobs`.
fn stays(path: &Path, folder: &Path) -> Result<(), SnapshotError> {
    let unreadable = |source| SnapshotError::Unreadable { path: path.to_owned(), source };
    let (own, real) = (folder.canonicalize().map_err(unreadable)?, path.canonicalize().map_err(unreadable)?);
    let snapshots = own.ancestors().find(|above| above.file_name().is_some_and(|name| name == "snapshots"));
    let blobs = snapshots.and_then(Path::parent).map(|repository| repository.join("blobs"));
    match real.starts_with(&own) || blobs.is_some_and(|blobs| real.starts_with(blobs)) {
        true => Ok(()),
        false => Err(SnapshotError::Astray { path: path.to_owned(), target: real }),
    }
}

/// Writes a JSON file, indented by two blanks as Hugging Face's are.
///
/// # Errors
///
/// The disk refuses.
pub fn write_json(path: &Path, value: &Value) -> Result<(), SnapshotError> {
    let mut text = serde_json::to_string_pretty(value).expect("a JSON value prints");
    text.push('\n');
    file_at_once(path, text.as_bytes())
}

/// One file of a model's weights.
#[derive(Debug)]
pub struct Shard<'a> {
    pub file: String,
    pub names: Vec<&'a str>,
    /// Of all its weights together.
    pub bytes: u64,
}

/// Which weights go into which file, in the order of their names; none larger than `most` bytes
/// unless one weight is.
pub fn shards(weights: &dyn Weights, dtype: Option<Dtype>, most: u64) -> Vec<Shard<'_>> {
    let mut shards: Vec<Shard> = Vec::new();
    for (name, info) in weights.infos() {
        let bytes = (info.n_elements() * dtype.unwrap_or(info.dtype).size()) as u64;
        match shards.last_mut() {
            Some(shard) if shard.bytes + bytes <= most => {
                shard.names.push(name);
                shard.bytes += bytes;
            }
            _ => shards.push(Shard { file: String::new(), names: vec![name], bytes }),
        }
    }
    let n = shards.len();
    for (i, shard) in shards.iter_mut().enumerate() {
        shard.file = match n {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{n:05}.safetensors", i + 1),
        };
    }
    shards
}

/// Writes the file that lists which shard holds which weight; a single file needs none.
///
/// # Errors
///
/// The disk refuses.
pub fn write_index(folder: &Path, shards: &[Shard<'_>]) -> Result<(), SnapshotError> {
    if shards.len() < 2 {
        return Ok(());
    }
    let of = |shard: &Shard<'_>| {
        shard.names.iter().map(|name| ((*name).to_owned(), shard.file.clone())).collect::<Vec<_>>()
    };
    let weight_map: BTreeMap<String, String> = shards.iter().flat_map(of).collect();
    let total: u64 = shards.iter().map(|shard| shard.bytes).sum();
    write_json(
        &folder.join(files::INDEX),
        &json!({"metadata": {"total_size": total}, "weight_map": weight_map}),
    )
}

/// Bytes that may still be written to the disk that `path` is on, where the system tells.
#[cfg(unix)]
pub fn free_bytes(path: &Path) -> Option<u64> {
    let here = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let disk = rustix::fs::statvfs(here).ok()?;
    Some(disk.f_bavail * disk.f_frsize)
}
#[cfg(not(unix))]
pub fn free_bytes(_path: &Path) -> Option<u64> {
    None
}
