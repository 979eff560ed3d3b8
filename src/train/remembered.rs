//! What an optimizer remembers, and the file in which a checkpoint keeps it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;

use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::View;

use crate::device::kernels::dynamic::{BLOCK, Codes};
use crate::snapshot::{Dtype, SnapshotError, WeightFiles, Weights};

/// One mean of one weight.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "two of a weight, whose numbers are thousands")]
pub enum Remembered {
    /// `[rows, columns]` in f32.
    Numbers(Tensor<2>),
    /// In 8 bits.
    Codes(Codes),
}

/// By which name the codes and the scales of a mean are stored.
fn names(mean: &str) -> [String; 2] {
    [format!("{mean}.codes"), format!("{mean}.scale")]
}

/// One array of the file.
struct Stored<'a> {
    shape: [usize; 2],
    numbers: Numbers<'a>,
}

enum Numbers<'a> {
    OnDevice(&'a Tensor<2>),
    Floats(&'a [f32]),
    Bytes(&'a [u8]),
}

impl View for Stored<'_> {
    fn dtype(&self) -> safetensors::Dtype {
        match self.numbers {
            Numbers::Bytes(_) => safetensors::Dtype::U8,
            _ => safetensors::Dtype::F32,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let bytes = |numbers: &[f32]| {
            let mut bytes = vec![0; Dtype::F32.size() * numbers.len()];
            Dtype::F32.encode(numbers, &mut bytes);
            Cow::Owned(bytes)
        };
        match self.numbers {
            Numbers::Bytes(bytes) => Cow::Borrowed(bytes),
            Numbers::Floats(numbers) => bytes(numbers),
            Numbers::OnDevice(tensor) => {
                let read = tensor.clone().try_into_vec_as::<f32>();
                bytes(&read.expect("a device that opened gives its results back"))
            }
        }
    }

    fn data_len(&self) -> usize {
        let size = if matches!(self.numbers, Numbers::Bytes(_)) { 1 } else { Dtype::F32.size() };
        self.shape.iter().product::<usize>() * size
    }
}

/// Writes what is remembered to one safetensors file: numbers in f32, codes as bytes, a block a row, beside their scales.
///
/// # Errors
///
/// The disk refuses.
pub fn write(path: &Path, state: &BTreeMap<String, Remembered>) -> Result<(), SnapshotError> {
    let mut arrays = BTreeMap::new();
    for (name, mean) in state {
        match mean {
            Remembered::Numbers(tensor) => {
                let stored = Stored { shape: tensor.dims(), numbers: Numbers::OnDevice(tensor) };
                arrays.insert(name.clone(), stored);
            }
            Remembered::Codes(Codes { codes, scales }) => {
                let [of_codes, of_scales] = names(name);
                let n = scales.len();
                arrays.insert(of_codes, Stored { shape: [n, BLOCK], numbers: Numbers::Bytes(codes) });
                arrays.insert(of_scales, Stored { shape: [n, 1], numbers: Numbers::Floats(scales) });
            }
        }
    }
    let about = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(arrays, Some(about), path).map_err(|error| SnapshotError::Unwritable {
        path: path.to_owned(),
        source: match error {
            safetensors::SafeTensorError::IoError(source) => source,
            other => io::Error::other(other.to_string()),
        },
    })
}

/// Opens a file of what is remembered.
///
/// # Errors
///
/// The file is missing, cut off or lies about its contents.
pub fn open(path: &Path) -> Result<WeightFiles, SnapshotError> {
    WeightFiles::open_with_bytes(path)
}

/// All that a file remembers, its numbers on this device.
///
/// # Errors
///
/// An array has no place in it; the error says which.
pub fn read(file: &WeightFiles, device: &Device) -> Result<BTreeMap<String, Remembered>, String> {
    let of_scales = |codes: &str| codes.strip_suffix(".codes").map(|mean| names(mean)[1].clone());
    let is_alone = |codes: &&str| !of_scales(codes).is_some_and(|scales| file.infos().contains_key(&scales));
    if let Some(name) = file.names_of_bytes().find(is_alone) {
        return Err(format!("`{name}` has no scales"));
    }
    let mut found = BTreeMap::new();
    for (name, info) in file.infos() {
        if let Some(mean) = name.strip_suffix(".scale") {
            let codes = codes(file, mean).map_err(|error| error.to_string())?;
            let codes = codes.ok_or_else(|| format!("`{name}` has no codes that it fits"))?;
            found.insert(mean.to_owned(), Remembered::Codes(codes));
            continue;
        }
        let [rows, columns] = info.shape[..] else { return Err(format!("`{name}` is no matrix")) };
        let weight = file.weight(name).map_err(|error| error.to_string())?;
        let data = TensorData::new(weight.to_f32(), [rows, columns]);
        found.insert(name.clone(), Remembered::Numbers(Tensor::from_data(data, (device, DType::F32))));
    }
    Ok(found)
}

/// A mean that a file has in 8 bits.
///
/// # Errors
///
/// Its scales cannot be read.
pub fn codes(file: &WeightFiles, mean: &str) -> Result<Option<Codes>, SnapshotError> {
    let [of_codes, of_scales] = names(mean);
    let Some(codes) = file.bytes_of(&of_codes) else { return Ok(None) };
    let (codes, scales) = (codes.to_vec(), file.weight(&of_scales)?.to_f32());
    Ok((codes.len() == scales.len() * BLOCK).then_some(Codes { codes, scales }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cpu;

    fn state() -> BTreeMap<String, Remembered> {
        let codes = (0..512u32).map(|i| (i * 7 % 256) as u8).collect();
        let codes = Codes { codes, scales: vec![0.25, 3e-9] };
        let numbers = Tensor::from_data(TensorData::new(vec![1.0f32, -2.0, 0.5], [1, 3]), &cpu());
        BTreeMap::from([
            ("a.weight.first".to_owned(), Remembered::Codes(codes)),
            ("b.weight.first".to_owned(), Remembered::Numbers(numbers)),
        ])
    }

    #[test]
    fn what_is_written_is_read_bit_by_bit_and_takes_a_byte_a_code() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("optimizer.safetensors");
        write(&path, &state()).unwrap();
        let file = open(&path).unwrap();
        let found = read(&file, &cpu()).unwrap();
        assert!(found.keys().eq(state().keys()));
        for (found, expected) in found.values().zip(state().values()) {
            match (found, expected) {
                (Remembered::Codes(found), Remembered::Codes(expected)) => assert_eq!(found, expected),
                (Remembered::Numbers(found), Remembered::Numbers(expected)) => {
                    found.to_data().assert_eq(&expected.to_data(), true);
                }
                _ => panic!("{found:?} {expected:?}"),
            }
        }
        let bytes = std::fs::metadata(&path).unwrap().len();
        let header = u64::from_le_bytes(std::fs::read(&path).unwrap()[..8].try_into().unwrap());
        assert_eq!(bytes - 8 - header, 512 + 2 * 4 + 3 * 4);
        // Bytes are no weights: a model that has some is refused.
        assert!(WeightFiles::open_file(&path).is_err());
    }

    #[test]
    fn scales_without_codes_and_of_other_codes_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("optimizer.safetensors");
        let short = Codes { codes: vec![0; 512], scales: vec![1.0; 3] };
        for codes in [short, Codes { codes: Vec::new(), scales: Vec::new() }] {
            let stored = |shape: [usize; 2]| Stored { shape, numbers: Numbers::Bytes(&codes.codes) };
            let scales = Stored { shape: [codes.scales.len(), 1], numbers: Numbers::Floats(&codes.scales) };
            let mut arrays = BTreeMap::from([("w.first.scale", scales)]);
            if !codes.codes.is_empty() {
                arrays.insert("w.first.codes", stored([2, 256]));
            }
            safetensors::serialize_to_file(arrays, None, &path).unwrap();
            let said = read(&open(&path).unwrap(), &cpu()).unwrap_err();
            assert_eq!(said, "`w.first.scale` has no codes that it fits");
        }
        let codes = Stored { shape: [1, BLOCK], numbers: Numbers::Bytes(&[0; BLOCK]) };
        safetensors::serialize_to_file([("w.first.codes", codes)], None, &path).unwrap();
        let said = read(&open(&path).unwrap(), &cpu()).unwrap_err();
        assert_eq!(said, "`w.first.codes` has no scales");
    }
}
