//! Merges in mergekit's language: its YAML, its meaning of parameters and its defaults.
//!
//! What is understood is done; what is not is refused by name, never ignored. Facts: mergekit 0.1.5.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

mod config;
mod templates;

pub use config::{Config, Input, Setting, Slice, Source, Token, TokenRow, TokenSource, Tokenizer};
pub use templates::{TEMPLATES, chat_template};

use super::{Besides, Merge, MergeError, Part, Settings, find};
use crate::recipe::layer_of;
use crate::snapshot::Weights;

/// One model as the plan sees it.
pub struct Model<'a> {
    /// As the YAML names it.
    pub name: &'a str,
    pub weights: &'a dyn Weights,
    pub n_layers: usize,
}

/// How every weight of the result is made.
pub struct Planned {
    pub parts: BTreeMap<String, Part>,
    /// For each layer of the result which model's, and which of its layers, it takes the place of: the base's where
    /// one is merged with others, else the first's.
    pub layers: Vec<(usize, usize)>,
    /// What the writer of the YAML may not expect.
    pub remarks: BTreeSet<String>,
}

impl Config {
    /// Reads mergekit's YAML.
    ///
    /// # Errors
    ///
    /// It is not YAML, has an unknown key, or asks for what is not understood.
    pub fn parse(text: &str, path: &str) -> Result<Self, MergeError> {
        let wrong = |why: String| MergeError::Config { path: path.to_owned(), why };
        // What the library advises whoever calls it is no advice for who writes the file.
        let said = |error: serde_saphyr::Error| {
            error.to_string().replace(", set DuplicateKeyPolicy in Options if acceptable", "")
        };
        // `y` and `n` are names to mergekit, and `yes` and `on` are switches: those are told apart where one is expected.
        let options = serde_saphyr::options! { strict_booleans: true };
        let config: Self =
            serde_saphyr::from_str_with_options(text, options).map_err(|error| wrong(said(error)))?;
        find(&config.merge_method)?;
        if config.modules.is_some() {
            return Err(wrong("`modules` (several networks in one model) is not supported".to_owned()));
        }
        if config.tokenizer.is_some() && config.tokenizer_source.is_some() {
            return Err(wrong(
                "`tokenizer` and `tokenizer_source` say the same; give one of them".to_owned(),
            ));
        }
        match (&config.models, &config.slices) {
            (Some(models), None) if !models.is_empty() => Ok(config),
            (None, Some(slices))
                if slices.iter().all(|slice| !slice.sources.is_empty()) && !slices.is_empty() =>
            {
                Ok(config)
            }
            (Some(_), Some(_)) => Err(wrong("`models` and `slices` cannot stand together".to_owned())),
            _ => Err(wrong("it names no models: give `models` or `slices` with `sources`".to_owned())),
        }
    }

    /// Every model that is read, each once, in the order they stand.
    pub fn models(&self) -> Vec<&str> {
        let listed = self.models.iter().flatten().map(|input| input.model.as_str());
        let sliced = self.slices.iter().flatten().flat_map(|slice| &slice.sources);
        let sliced = sliced.map(|source| source.model.as_str());
        let bases = self.slices.iter().flatten().filter_map(|slice| slice.base_model.as_deref());
        let mut names = Vec::new();
        for name in self.base_model.as_deref().into_iter().chain(listed).chain(sliced).chain(bases) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// The model whose configuration and tokenizer the result takes: the base, else the first.
    pub fn donor(&self) -> &str {
        self.models()[0]
    }

    /// Settles every weight of the result. `models` are those of [`Self::models`], in that order.
    ///
    /// # Errors
    ///
    /// A parameter is unknown, missing or out of range, a layer is not there, or the models do not
    /// have the same weights.
    pub fn plan(&self, models: &[Model<'_>], path: &str, seed: u64) -> Result<Planned, MergeError> {
        let wrong = |why: String| MergeError::Config { path: path.to_owned(), why };
        let index = |name: &str| models.iter().position(|model| model.name == name).expect("it was listed");
        let base = self.base_model.as_deref().map(index);
        let slices: Vec<Slice> = match (&self.models, &self.slices) {
            (_, Some(slices)) => slices.clone(),
            (inputs, None) => {
                let whole = |input: &Input| Source {
                    model: input.model.clone(),
                    layer_range: [0, models[index(&input.model)].n_layers],
                    parameters: input.parameters.clone(),
                };
                let sources = inputs.iter().flatten().map(whole).collect();
                vec![Slice { sources, base_model: None, parameters: BTreeMap::new() }]
            }
        };
        let planner = Planner { config: self, models, base, path, seed };
        let mut parts = BTreeMap::new();
        let mut layers = Vec::new();
        for (nth, slice) in slices.iter().enumerate() {
            let length = slice.sources[0].layer_range[1].saturating_sub(slice.sources[0].layer_range[0]);
            for source in &slice.sources {
                let [from, to] = source.layer_range;
                let has = models[index(&source.model)].n_layers;
                if to < from {
                    return Err(wrong(format!("slice {} ends before it begins: {from}..{to}", nth + 1)));
                }
                if to - from != length {
                    return Err(wrong(format!("the sources of slice {} have different lengths", nth + 1)));
                }
                if to > has {
                    return Err(wrong(format!(
                        "`{}` has {has} layers, and {from}..{to} are asked",
                        source.model
                    )));
                }
            }
            for offset in 0..length {
                // The one layer of a slice is its last.
                let t = if length > 1 { offset as f64 / (length - 1) as f64 } else { 1.0 };
                planner.layer(slice, offset, layers.len(), t, &mut parts)?;
                layers.push(planner.origin(slice, offset));
            }
        }
        if layers.is_empty() {
            return Err(wrong("its slices hold no layers".to_owned()));
        }
        let (first, last) = (&slices[0], &slices[slices.len() - 1]);
        planner.outside(first, last, &mut parts)?;
        let methods = parts.values().filter_map(|part| part.method.remark());
        let remarks = methods.map(|remark| format!("`{}`: {remark}", self.merge_method));
        let remarks = remarks.chain(self.idle_filters(&parts)).collect();
        Ok(Planned { parts, layers, remarks })
    }

    /// Filters that fit none of the weights.
    fn idle_filters(&self, parts: &BTreeMap<String, Part>) -> Vec<String> {
        let slices = self.slices.iter().flatten();
        let scopes = [&self.parameters].into_iter();
        let scopes = scopes.chain(self.models.iter().flatten().map(|input| &input.parameters));
        let scopes = scopes.chain(slices.clone().map(|slice| &slice.parameters));
        let scopes = scopes.chain(slices.flat_map(|slice| slice.sources.iter().map(|s| &s.parameters)));
        let filters = scopes.flat_map(|scope| scope.values()).flat_map(Setting::filters);
        let names = || parts.iter().flat_map(|(name, part)| part.inputs.iter().map(|(_, n)| n).chain([name]));
        filters
            .filter(|filter| !names().any(|name| filter.holds(name)))
            .map(|filter| format!("filter `{filter}` is part of no weight's name and has no effect"))
            .collect()
    }
}

struct Planner<'a> {
    config: &'a Config,
    models: &'a [Model<'a>],
    base: Option<usize>,
    path: &'a str,
    seed: u64,
}

impl Planner<'_> {
    fn index(&self, name: &str) -> usize {
        self.models.iter().position(|model| model.name == name).expect("every model is listed")
    }

    fn base_of(&self, slice: &Slice) -> Option<usize> {
        slice.base_model.as_deref().map(|name| self.index(name)).or(self.base)
    }

    /// Which models a slice reads, each with its own settings and where its layers begin; the base
    /// is among them even where the YAML does not list it.
    fn sources<'s>(&self, slice: &'s Slice) -> Vec<(usize, Option<&'s Source>, usize)> {
        let index = |name: &str| self.index(name);
        let of = |source: &'s Source| (index(&source.model), Some(source), source.layer_range[0]);
        let mut sources: Vec<_> = slice.sources.iter().map(of).collect();
        if let Some(base) = self.base_of(slice).filter(|base| sources.iter().all(|(model, ..)| model != base))
        {
            sources.insert(0, (base, None, slice.sources[0].layer_range[0]));
        }
        sources
    }

    /// The layer that a layer of the result takes the place of, and its model.
    fn origin(&self, slice: &Slice, offset: usize) -> (usize, usize) {
        let (base, sources) = (self.base_of(slice), self.sources(slice));
        let of_base = sources.iter().find(|(model, ..)| Some(*model) == base);
        let (model, _, start) = of_base.unwrap_or(&sources[0]);
        (*model, start + offset)
    }

    fn layer(
        &self,
        slice: &Slice,
        offset: usize,
        to: usize,
        t: f64,
        parts: &mut BTreeMap<String, Part>,
    ) -> Result<(), MergeError> {
        let sources = self.sources(slice);
        let mut tails = BTreeSet::new();
        for (model, _, start) in &sources {
            let names = self.models[*model].weights.infos().keys();
            let here = names.filter_map(|name| layer_of(name)).filter(|(layer, ..)| *layer == start + offset);
            tails.extend(here.map(|(_, before, after)| (before.to_owned(), after.to_owned())));
        }
        for (before, after) in tails {
            let name = |layer: usize| format!("{before}layers.{layer}.{after}");
            let inputs = sources.iter().map(|(model, source, start)| (*model, *source, name(start + offset)));
            parts.insert(name(to), self.part(&name(to), slice, inputs.collect(), t)?);
        }
        Ok(())
    }

    /// Embeddings go with the first slice, the final norm and the head with the last.
    fn outside(
        &self,
        first: &Slice,
        last: &Slice,
        parts: &mut BTreeMap<String, Part>,
    ) -> Result<(), MergeError> {
        let names: BTreeSet<&String> =
            self.models.iter().flat_map(|model| model.weights.infos().keys()).collect();
        for name in names.into_iter().filter(|name| layer_of(name).is_none()) {
            let slice = if name.contains("embed") { first } else { last };
            let sources = self.sources(slice).into_iter();
            let inputs = sources.map(|(model, source, _)| (model, source, name.clone())).collect();
            parts.insert(name.clone(), self.part(name, slice, inputs, 0.0)?);
        }
        Ok(())
    }

    fn part(
        &self,
        name: &str,
        slice: &Slice,
        inputs: Vec<(usize, Option<&Source>, String)>,
        t: f64,
    ) -> Result<Part, MergeError> {
        let method = find(&self.config.merge_method)?;
        let base = self.base_of(slice);
        let base = base.and_then(|base| inputs.iter().position(|(model, ..)| *model == base));
        let mut settings = Settings { base, seed: self.seed, ..Settings::default() };
        // A setting that only one model has is that model's; the rest is the merge's.
        let of_models = |key: &str| method.of_models.contains(&key);
        let shared = [&slice.parameters, &self.config.parameters];
        for scope in shared.into_iter().rev() {
            for (key, setting) in scope.iter().filter(|(key, _)| !of_models(key)) {
                if let Some(value) = setting.value(name, t) {
                    settings.all.insert(key.clone(), value);
                }
            }
        }
        for (_, source, input) in &inputs {
            let mut table = toml::Table::new();
            let own = source.map(|source| &source.parameters);
            for scope in own.into_iter().chain(shared).rev() {
                let is_own = own.is_some_and(|own| std::ptr::eq(own, scope));
                for (key, setting) in scope.iter().filter(|(key, _)| is_own || of_models(key)) {
                    if let Some(value) = setting.value(input, t) {
                        table.insert(key.clone(), value);
                    }
                }
            }
            settings.each.push(table);
        }
        let merge = settings.only_of_each(method.of_models).and_then(|()| (method.from_settings)(&settings));
        let merge = merge.map_err(|why| MergeError::Config {
            path: self.path.to_owned(),
            why: format!("`{}` of `{name}`: {why}", method.name),
        })?;
        let inputs = inputs.into_iter().map(|(model, _, name)| (model, name)).collect();
        Ok(Part {
            inputs,
            base,
            importance: Vec::new(),
            method: Arc::<dyn Merge>::from(merge),
            besides: Besides::default(),
        })
    }
}
