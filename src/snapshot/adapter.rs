//! LoRA adapters in PEFT's folder layout, and weights with an adapter folded in.
//!
//! Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, arXiv 2106.09685;
//! Kalajdzievski, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA", 2023,
//! arXiv 2312.03732. Names and files are those of PEFT.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;
use serde_json::{Map, Value, json};

use super::files::{WeightFiles, read_json};
use super::writer::{folder_at_once, write_file, write_json};
use super::{Dtype, Numbers, SnapshotError, Weight, WeightInfo, Weights};
use crate::simd::vectorised;

/// What an adapter folder says of itself.
pub const CONFIG: &str = "adapter_config.json";
/// The factors of an adapter folder.
pub const WEIGHTS: &str = "adapter_model.safetensors";
const PREFIX: &str = "base_model.model.";

/// The module that a factor belongs to and which factor it is, `A` or `B`, by its name in a folder of
/// PEFT's.
pub fn factor(name: &str) -> Option<(&str, &str)> {
    let (module, which) = name.strip_prefix(PREFIX)?.strip_suffix(".weight")?.rsplit_once(".lora_")?;
    ["A", "B"].contains(&which).then_some((module, which))
}

/// A low-rank update of some of a model's linear maps: `W + scale · B A`.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// Rank `r` of every pair.
    pub rank: usize,
    pub alpha: f64,
    /// Scale by `alpha / √r` (rsLoRA) and not `alpha / r`.
    pub rank_stabilized: bool,
    pub dropout: f64,
    /// By module, such as `model.layers.0.self_attn.q_proj`.
    pub pairs: BTreeMap<String, Pair>,
}

/// The two factors of one linear map's update, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// `[r, in]`.
    pub a: Vec<f32>,
    /// `[out, r]`.
    pub b: Vec<f32>,
    pub n_in: usize,
    pub n_out: usize,
}

impl Adapter {
    /// What `B A` is multiplied with.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.rank_stabilized { rank.sqrt() } else { rank }
    }

    /// Adds the update of one row of a linear map to `values`, which begin at `column`.
    fn add_row(&self, pair: &Pair, row: usize, column: usize, values: &mut [f32]) {
        let scale = self.scale() as f32;
        let mut delta = vec![0.0; values.len()];
        let b = &pair.b[row * self.rank..(row + 1) * self.rank];
        for (b, a) in b.iter().zip(pair.a.chunks(pair.n_in)) {
            add_times(&a[column..column + values.len()], *b, &mut delta);
        }
        add_times(&delta, scale, values);
    }

    /// Reads an adapter folder that PEFT or this program wrote.
    ///
    /// # Errors
    ///
    /// A file is missing or broken, or the adapter is of a kind that is not supported here.
    pub fn read(folder: &Path) -> Result<Self, SnapshotError> {
        let files = WeightFiles::open_file(&folder.join(WEIGHTS))?;
        Self::described(folder, folder, &files, PREFIX)
    }

    /// The adapter whose factors a checkpoint has: its rank and scale are those of the finished
    /// adapter that lies beside it.
    ///
    /// # Errors
    ///
    /// There is no finished adapter, or a file is broken.
    pub fn of_checkpoint(folder: &Path, files: &WeightFiles) -> Result<Self, SnapshotError> {
        Self::described(folder, &folder.with_file_name("adapter"), files, "")
    }

    /// The factors in `files`, whose names begin with `prefix`, as the configuration in `by` says.
    fn described(folder: &Path, by: &Path, files: &WeightFiles, prefix: &str) -> Result<Self, SnapshotError> {
        let bad = |why: String, help: &str| SnapshotError::BadAdapter {
            path: folder.to_owned(),
            why,
            help: help.to_owned(),
        };
        let config: Map<String, Value> = read_json(&by.join(CONFIG))?;
        refuse_other_kinds(&config).map_err(|why| bad(why, "plain LoRA and rsLoRA adapters can be read"))?;
        let number = |key: &str| config.get(key).and_then(Value::as_f64);
        let broken = "was the folder written by PEFT or by this program?";
        let rank = number("r").filter(|r| *r >= 1.0 && *r <= 65536.0 && r.fract() == 0.0);
        let rank = rank.ok_or_else(|| bad("`r` is not a whole number above 0".to_owned(), broken))? as usize;
        let alpha =
            number("lora_alpha").ok_or_else(|| bad("`lora_alpha` is not a number".to_owned(), broken))?;
        let mut adapter = Self {
            rank,
            alpha,
            rank_stabilized: config.get("use_rslora").and_then(Value::as_bool).unwrap_or(false),
            dropout: number("lora_dropout").unwrap_or(0.0),
            pairs: BTreeMap::new(),
        };
        adapter.read_pairs(files, prefix).map_err(|why| bad(why, broken))?;
        Ok(adapter)
    }

    fn read_pairs(&mut self, files: &WeightFiles, prefix: &str) -> Result<(), String> {
        for name in files.infos().keys() {
            let Some(rest) = name.strip_prefix(prefix) else {
                return Err(format!("weight `{name}` is not a LoRA factor"));
            };
            let Some(module) = rest.strip_suffix(".lora_A.weight") else {
                match rest.ends_with(".lora_B.weight") {
                    true => continue,
                    false => return Err(format!("weight `{name}` is not a LoRA factor")),
                }
            };
            let factor = |which: &str| {
                let name = format!("{prefix}{module}.lora_{which}.weight");
                let weight = files.weight(&name).map_err(|_| format!("weight `{name}` is missing"))?;
                match *weight.info.shape.as_slice() {
                    [rows, columns] => Ok((rows, columns, weight.to_f32())),
                    _ => Err(format!("weight `{name}` is not a matrix")),
                }
            };
            let ((rank_a, n_in, a), (n_out, rank_b, b)) = (factor("A")?, factor("B")?);
            if rank_a != self.rank || rank_b != self.rank {
                return Err(format!("`{module}` has rank {rank_a} and {rank_b}, expected {}", self.rank));
            }
            self.pairs.insert(module.to_owned(), Pair { a, b, n_in, n_out });
        }
        if 2 * self.pairs.len() != files.infos().len() {
            return Err("a `lora_B` has no `lora_A`".to_owned());
        }
        Ok(())
    }

    /// Writes `adapter_config.json` and `adapter_model.safetensors` as PEFT does.
    ///
    /// # Errors
    ///
    /// The target is not empty or the disk refuses.
    pub fn write(&self, target: &Path, base_model: &str) -> Result<(), SnapshotError> {
        folder_at_once(target, |folder| self.write_files(folder, base_model))
    }

    /// The same two files into a folder that is there.
    pub(crate) fn write_files(&self, folder: &Path, base_model: &str) -> Result<(), SnapshotError> {
        let modules: Vec<&String> = self.pairs.keys().collect();
        let config = json!({
            "base_model_name_or_path": base_model,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "lora_alpha": whole_if_whole(self.alpha),
            "lora_dropout": self.dropout,
            "modules_to_save": null,
            "peft_type": "LORA",
            "r": self.rank,
            "target_modules": modules,
            "task_type": "CAUSAL_LM",
            "use_dora": false,
            "use_rslora": self.rank_stabilized,
        });
        write_json(&folder.join(CONFIG), &config)?;
        let factors = Factors::new(self);
        let names: Vec<&str> = factors.infos().keys().map(String::as_str).collect();
        write_file(&folder.join(WEIGHTS), &factors, &names, Some(Dtype::F32))
    }
}

vectorised! {
    /// `sum += x * scale`, a rounding for each product and each sum.
    fn add_times<'a>(x: &'a [f32], scale: f32, sum: &'a mut [f32]) {
        for (sum, x) in sum.iter_mut().zip(x) {
            *sum += scale * x;
        }
    }
}

/// PEFT writes a whole alpha without a fraction.
fn whole_if_whole(x: f64) -> Value {
    if x.fract() == 0.0 && x.abs() < 1e9 { json!(x as i64) } else { json!(x) }
}

/// Names what makes an adapter more than plain LoRA, if anything does.
fn refuse_other_kinds(config: &Map<String, Value>) -> Result<(), String> {
    let kind = config.get("peft_type").and_then(Value::as_str).unwrap_or("absent");
    if kind != "LORA" {
        return Err(format!("`peft_type` is `{kind}`, expected `LORA`"));
    }
    let empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text == "none",
        _ => false,
    };
    let keys = [
        "use_dora",
        "fan_in_fan_out",
        "modules_to_save",
        "rank_pattern",
        "alpha_pattern",
        "bias",
        "lora_bias",
        "use_qalora",
        "trainable_token_indices",
        "layer_replication",
        "target_parameters",
        "use_bdlora",
    ];
    match keys.iter().find(|key| config.get(**key).is_some_and(|value| !empty(value))) {
        Some(key) => Err(format!("`{key}` is `{}`", config[*key])),
        None => Ok(()),
    }
}

/// An adapter's factors as named weights, to be written.
struct Factors<'a> {
    adapter: &'a Adapter,
    infos: BTreeMap<String, WeightInfo>,
}

impl<'a> Factors<'a> {
    fn new(adapter: &'a Adapter) -> Self {
        let mut infos = BTreeMap::new();
        for (module, pair) in &adapter.pairs {
            let info = |shape: [usize; 2]| WeightInfo { shape: shape.to_vec(), dtype: Dtype::F32 };
            infos.insert(format!("{PREFIX}{module}.lora_A.weight"), info([adapter.rank, pair.n_in]));
            infos.insert(format!("{PREFIX}{module}.lora_B.weight"), info([pair.n_out, adapter.rank]));
        }
        Self { adapter, infos }
    }
}

impl Weights for Factors<'_> {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        let info = &self.infos[name];
        let module = &name[PREFIX.len()..name.len() - ".lora_A.weight".len()];
        let pair = &self.adapter.pairs[module];
        let values = if name.ends_with(".lora_A.weight") { &pair.a } else { &pair.b };
        Ok(Weight::from_f32(info.shape.clone(), values))
    }
}

/// A base with an adapter folded in: `W + scale · B A` in f32 where the adapter acts, and the
/// base's own bytes elsewhere.
pub struct Folded<'a, B> {
    base: B,
    adapter: Cow<'a, Adapter>,
    infos: BTreeMap<String, WeightInfo>,
}

impl<'a, B: Weights> Folded<'a, B> {
    /// Folds `adapter` into `base`; nothing is computed until a weight is asked for.
    ///
    /// # Errors
    ///
    /// The adapter acts on a weight that the base lacks or that has another shape.
    pub fn new(base: B, adapter: Cow<'a, Adapter>) -> Result<Self, SnapshotError> {
        let mut infos = base.infos().clone();
        for (module, pair) in &adapter.pairs {
            let name = format!("{module}.weight");
            let info = infos.get_mut(&name).ok_or_else(|| SnapshotError::MissingWeight {
                name: name.clone(),
                place: "the base".to_owned(),
                help: "the adapter was trained on another model".to_owned(),
            })?;
            let found = vec![pair.n_out, pair.n_in];
            if info.shape != found {
                return Err(SnapshotError::AdapterShape { name, found, expected: info.shape.clone() });
            }
            info.dtype = Dtype::F32;
        }
        Ok(Self { base, adapter, infos })
    }
}

impl<B: Weights> Weights for Folded<'_, B> {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        let weight = self.base.weight(name)?;
        let Some(pair) = name.strip_suffix(".weight").and_then(|module| self.adapter.pairs.get(module))
        else {
            return Ok(weight);
        };
        let mut values = weight.to_f32();
        let rows = values.par_chunks_mut(pair.n_in).enumerate();
        rows.for_each(|(row, values)| self.adapter.add_row(pair, row, 0, values));
        Ok(Weight::from_f32(weight.info.shape, &values))
    }

    fn numbers(&self, name: &str) -> Result<Numbers<'_>, SnapshotError> {
        let base = self.base.numbers(name)?;
        let Some(pair) = name.strip_suffix(".weight").and_then(|module| self.adapter.pairs.get(module))
        else {
            return Ok(base);
        };
        Ok(Numbers::by_rows(pair.n_in, move |row, column, out| {
            base.read(row * pair.n_in + column, out);
            self.adapter.add_row(pair, row, column, out);
        }))
    }
}
