//! LoRA adapters in PEFT's folder layout, and weights with an adapter folded in.
//!
//! Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, arXiv 2106.09685;
//! Kalajdzievski, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA", 2023,
//! arXiv 2312.03732; Liu et al., "DoRA", 2024, arXiv 2402.09353. Names and files are those of PEFT.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use serde_json::{Map, Value, json};

use super::files::{WeightFiles, read_json};
use super::peft::{Patterns, refuse_other_kinds};
use super::writer::{folder_at_once, write_file, write_json};
use super::{Dtype, Numbers, SharedWeights, SnapshotError, Weight, WeightInfo, Weights, weight};
use crate::simd::vectorised;

/// What an adapter folder says of itself.
pub const CONFIG: &str = "adapter_config.json";
/// The factors of an adapter folder.
pub const WEIGHTS: &str = "adapter_model.safetensors";
/// What the name of a DoRA magnitude ends with, behind `lora_`.
pub const MAGNITUDE: &str = "magnitude_vector";
const PREFIX: &str = "base_model.model.";

/// The module that a factor belongs to and which factor it is, `A` or `B`, by its name in a folder of
/// PEFT's.
pub fn factor(name: &str) -> Option<(&str, &str)> {
    let (module, which) = name.strip_prefix(PREFIX)?.strip_suffix(".weight")?.rsplit_once(".lora_")?;
    ["A", "B"].contains(&which).then_some((module, which))
}

/// A low-rank update of some of a model's linear maps: `W + scale · B A`, with DoRA its rows brought
/// to lengths of their own.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// The rank and alpha of pairs that have none of their own.
    pub rank: usize,
    pub alpha: f64,
    /// Scale by `alpha / √r` (rsLoRA) and not `alpha / r`.
    pub rank_stabilized: bool,
    /// The length of each row is a weight of its own.
    pub dora: bool,
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
    /// DoRA's length of each row, `[out]`; empty for those of the base.
    pub magnitude: Vec<f32>,
    pub n_in: usize,
    pub n_out: usize,
    pub rank: usize,
    pub alpha: f64,
}

impl Pair {
    /// Adds the update of one row to `values`, which begin at `column`.
    fn add_row(&self, scale: f64, row: usize, column: usize, values: &mut [f32]) {
        let mut delta = vec![0.0; values.len()];
        let b = &self.b[row * self.rank..(row + 1) * self.rank];
        for (b, a) in b.iter().zip(self.a.chunks(self.n_in)) {
            add_times(&a[column..column + values.len()], *b, &mut delta);
        }
        add_times(&delta, scale as f32, values);
    }

    /// What DoRA multiplies a row with, of which `values` is all.
    fn turn(&self, row: usize, values: &[f32]) -> f32 {
        let square: f64 = values.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        self.magnitude.get(row).map_or(1.0, |magnitude| (f64::from(*magnitude) / square.sqrt()) as f32)
    }
}

impl Adapter {
    /// What the `B A` of a pair is multiplied with.
    pub fn scale(&self, pair: &Pair) -> f64 {
        let rank = pair.rank as f64;
        pair.alpha / if self.rank_stabilized { rank.sqrt() } else { rank }
    }

    /// What `pair` adds to one row of its map: `s · B A`, with DoRA the whole row less the base's.
    ///
    /// `base` is that row of the base, `[in]`, which only DoRA looks at; so is the result.
    pub fn update_of_row(&self, pair: &Pair, row: usize, base: &[f32], update: &mut [f32]) {
        if !self.dora {
            update.fill(0.0);
            return pair.add_row(self.scale(pair), row, 0, update);
        }
        update.copy_from_slice(base);
        pair.add_row(self.scale(pair), row, 0, update);
        let turn = pair.turn(row, update);
        update.iter_mut().zip(base).for_each(|(x, base)| *x = turn * *x - base);
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
        refuse_other_kinds(&config)
            .map_err(|why| bad(why, "LoRA, rsLoRA and DoRA adapters of linear maps can be read"))?;
        let number = |key: &str| config.get(key).and_then(Value::as_f64);
        let broken = "was the folder written by PEFT or by this program?";
        let rank = number("r").filter(|r| *r >= 1.0 && *r <= 65536.0 && r.fract() == 0.0);
        let rank = rank.ok_or_else(|| bad("`r` is not a whole number above 0".to_owned(), broken))? as usize;
        let alpha =
            number("lora_alpha").ok_or_else(|| bad("`lora_alpha` is not a number".to_owned(), broken))?;
        let switch = |key: &str| config.get(key).and_then(Value::as_bool).unwrap_or(false);
        let mut adapter = Self {
            rank,
            alpha,
            rank_stabilized: switch("use_rslora"),
            dora: switch("use_dora"),
            dropout: number("lora_dropout").unwrap_or(0.0),
            pairs: BTreeMap::new(),
        };
        let ranks = Patterns::read(&config, "rank_pattern").map_err(|why| bad(why, broken))?;
        let alphas = Patterns::read(&config, "alpha_pattern").map_err(|why| bad(why, broken))?;
        adapter.read_pairs(files, prefix, &ranks, &alphas).map_err(|why| bad(why, broken))?;
        Ok(adapter)
    }

    fn read_pairs(
        &mut self,
        files: &WeightFiles,
        prefix: &str,
        ranks: &Patterns,
        alphas: &Patterns,
    ) -> Result<(), String> {
        let mut n_used = 0;
        for name in files.infos().keys() {
            let Some(module) = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(".lora_A.weight"))
            else {
                continue;
            };
            let factor = |which: &str| {
                let name = format!("{prefix}{module}.lora_{which}");
                files.weight(&name).map_err(|_| format!("weight `{name}` is missing"))
            };
            let matrix = |which: &str| {
                let weight = factor(which)?;
                match *weight.info.shape.as_slice() {
                    [rows, columns] => Ok((rows, columns, weight.to_f32())),
                    _ => Err(format!("weight `{prefix}{module}.lora_{which}` is not a matrix")),
                }
            };
            let ((rank_a, n_in, a), (n_out, rank_b, b)) = (matrix("A.weight")?, matrix("B.weight")?);
            let rank = ranks.of(module).map_or(self.rank, |rank| rank as usize);
            if rank_a != rank || rank_b != rank {
                return Err(format!("`{module}` has rank {rank_a} and {rank_b}, expected {rank}"));
            }
            let magnitude = if self.dora { factor(MAGNITUDE)?.to_f32() } else { Vec::new() };
            if self.dora && magnitude.len() != n_out {
                return Err(format!("`{module}` has {n_out} rows and {} magnitudes", magnitude.len()));
            }
            n_used += 2 + usize::from(self.dora);
            let alpha = alphas.of(module).unwrap_or(self.alpha);
            self.pairs.insert(module.to_owned(), Pair { a, b, magnitude, n_in, n_out, rank, alpha });
        }
        if n_used == files.infos().len() {
            return Ok(());
        }
        let known = |name: &str| {
            let module = name.strip_prefix(prefix)?.rsplit_once(".lora_")?.0;
            self.pairs.contains_key(module).then_some(())
        };
        let stray = files.infos().keys().find(|name| known(name).is_none() || name.contains(MAGNITUDE));
        Err(match stray {
            Some(name) if ["embed_tokens.weight", "lm_head.weight"].iter().any(|end| name.ends_with(end)) => {
                format!(
                    "`{name}` is a whole tensor: PEFT saved embedding and head along, for the vocabulary grew or one of them is a \
                 target. Fold it with PEFT's `merge_and_unload()` and name the folder that this saves"
                )
            }
            Some(name) => format!("weight `{name}` is not a factor of a LoRA pair"),
            None => "a factor is there twice".to_owned(),
        })
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
        let own = |of: &dyn Fn(&Pair) -> Value, usual: Value| {
            let values = self.pairs.iter().map(|(module, pair)| (module.clone(), of(pair)));
            values.filter(|(_, value)| *value != usual).collect::<Map<_, _>>()
        };
        let config = json!({
            "alpha_pattern": own(&|pair| whole_if_whole(pair.alpha), whole_if_whole(self.alpha)),
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
            "rank_pattern": own(&|pair| json!(pair.rank), json!(self.rank)),
            "target_modules": modules,
            "task_type": "CAUSAL_LM",
            "use_dora": self.dora,
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

/// An adapter's factors as named weights, to be written.
struct Factors<'a> {
    infos: BTreeMap<String, WeightInfo>,
    values: BTreeMap<String, &'a [f32]>,
}

impl<'a> Factors<'a> {
    fn new(adapter: &'a Adapter) -> Self {
        let (mut infos, mut values) = (BTreeMap::new(), BTreeMap::new());
        for (module, pair) in &adapter.pairs {
            let mut add = |which: &str, shape: Vec<usize>, numbers: &'a [f32]| {
                let name = format!("{PREFIX}{module}.lora_{which}");
                infos.insert(name.clone(), WeightInfo { shape, dtype: Dtype::F32 });
                values.insert(name, numbers);
            };
            add("A.weight", vec![pair.rank, pair.n_in], &pair.a);
            add("B.weight", vec![pair.n_out, pair.rank], &pair.b);
            if adapter.dora {
                add(MAGNITUDE, vec![pair.n_out], &pair.magnitude);
            }
        }
        Self { infos, values }
    }
}

impl Weights for Factors<'_> {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        Ok(Weight::from_f32(self.infos[name].shape.clone(), self.values[name]))
    }
}

/// A base with an adapter folded in: `W + scale · B A` in f32 where the adapter acts, and the
/// base's own bytes elsewhere.
pub struct Folded {
    base: SharedWeights,
    adapter: Arc<Adapter>,
    infos: BTreeMap<String, WeightInfo>,
}

impl Folded {
    /// Folds `adapter` into `base`; nothing is computed until a weight is asked for.
    ///
    /// # Errors
    ///
    /// The adapter acts on a weight that the base lacks or that has another shape.
    pub fn new(base: SharedWeights, adapter: Arc<Adapter>) -> Result<Self, SnapshotError> {
        let mut infos = base.infos().clone();
        for (module, pair) in &adapter.pairs {
            let name = format!("{module}.weight");
            let tied = module == "lm_head" && base.infos().contains_key("model.embed_tokens.weight");
            let info = infos.get_mut(&name).ok_or_else(|| match tied {
                true => SnapshotError::TiedHead { module: module.clone() },
                false => SnapshotError::MissingWeight {
                    name: name.clone(),
                    place: "the base".to_owned(),
                    help: "the adapter was trained on another model".to_owned(),
                },
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

impl Weights for Folded {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        let weight = self.base.weight(name)?;
        let Some(pair) = name.strip_suffix(".weight").and_then(|module| self.adapter.pairs.get(module))
        else {
            return Ok(weight);
        };
        let (scale, mut values) = (self.adapter.scale(pair), weight.to_f32());
        let rows = values.par_chunks_mut(pair.n_in).enumerate();
        rows.for_each(|(row, values)| {
            pair.add_row(scale, row, 0, values);
            if self.adapter.dora {
                let turn = pair.turn(row, values);
                for x in values {
                    *x *= turn;
                }
            }
        });
        Ok(Weight::from_f32(weight.info.shape, &values))
    }

    fn numbers(&self, name: &str) -> Result<Numbers<'_>, SnapshotError> {
        let base = self.base.numbers(name)?;
        let Some(pair) = name.strip_suffix(".weight").and_then(|module| self.adapter.pairs.get(module))
        else {
            return Ok(base);
        };
        let scale = self.adapter.scale(pair);
        let read = move |row: usize, column: usize, out: &mut [f32]| {
            base.read(row * pair.n_in + column, out);
            pair.add_row(scale, row, column, out);
        };
        if !self.adapter.dora {
            let factors = weight::Factors { a: &pair.a, b: &pair.b, rank: pair.rank, scale };
            return Ok(Numbers::updated(pair.n_in, read, factors));
        }
        let turn = |whole: &mut Vec<f32>, row: usize| {
            whole.resize(pair.n_in, 0.0);
            read(row, 0, whole);
            pair.turn(row, whole)
        };
        let turns: Vec<f32> = (0..pair.n_out).into_par_iter().map_init(Vec::new, turn).collect();
        Ok(Numbers::by_rows(pair.n_in, move |row, column, out: &mut [f32]| {
            read(row, column, out);
            for x in out {
                *x *= turns[row];
            }
        }))
    }
}
