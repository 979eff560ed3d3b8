//! Merges that choose, patches and hardening against their authors' programs, and formulas in f64: every case of the
//! golden folder.

mod golden {
    use std::collections::BTreeMap;
    use std::fmt::Write as _;
    use std::io::Write;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use finetune::merge::{MergeReport, Merged, Pair, resolve};
    use finetune::recipe::Helper;
    use finetune::snapshot::adapter::{Adapter, Folded};
    use finetune::snapshot::{
        Dtype, Dtypes, SharedWeights, SnapshotError, Weight, WeightFiles, WeightInfo, Weights,
    };
    use serde_json::Value;

    fn files(path: &Path) -> SharedWeights {
        Arc::new(WeightFiles::open_file(path).unwrap())
    }

    /// A file of masks, one byte for each number, as numbers.
    struct Masks(BTreeMap<String, WeightInfo>, BTreeMap<String, Vec<f32>>);

    impl Masks {
        fn open(path: &Path) -> Self {
            let bytes = std::fs::read(path).unwrap();
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let (mut infos, mut numbers) = (BTreeMap::new(), BTreeMap::new());
            for (name, view) in file.iter() {
                infos.insert(name.to_owned(), WeightInfo { shape: view.shape().to_vec(), dtype: Dtype::F32 });
                numbers.insert(name.to_owned(), view.data().iter().map(|x| f32::from(*x)).collect());
            }
            Self(infos, numbers)
        }
    }

    impl Weights for Masks {
        fn infos(&self) -> &BTreeMap<String, WeightInfo> {
            &self.0
        }
        fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
            let missing = || SnapshotError::MissingWeight {
                name: name.to_owned(),
                place: "the mask".to_owned(),
                help: String::new(),
            };
            let info = self.0.get(name).ok_or_else(missing)?;
            Ok(Weight::from_f32(info.shape.clone(), &self.1[name]))
        }
    }

    /// A model folder, an adapter on the base, or a file.
    fn open(path: &Path, base: &SharedWeights) -> SharedWeights {
        if path.join("adapter_config.json").is_file() {
            let adapter = Arc::new(Adapter::read(path).unwrap());
            return Arc::new(Folded::new(base.clone(), adapter).unwrap());
        }
        files(&if path.is_dir() { path.join("model.safetensors") } else { path.to_owned() })
    }

    fn number(options: &Value, key: &str) -> Option<f64> {
        options[key].as_f64()
    }

    /// The rule by which matrices are chosen, in our words.
    fn choice(options: &Value) -> String {
        let rule = options["select"].as_str().unwrap();
        match (number(options, "tau"), number(options, "relative"), options["n"].as_u64()) {
            (Some(tau), ..) => format!("tau={tau}"),
            (_, Some(relative), _) => format!("relative={relative}"),
            (.., Some(n)) if rule.contains("highest") => format!("highest={n}"),
            (.., Some(n)) => format!("lowest={n}"),
            _ => panic!("unknown rule `{rule}`"),
        }
    }

    /// A case as our own spec.
    fn spec(row: &Value) -> String {
        let options = &row["options"];
        let given = |key: &str| number(options, key).unwrap_or_else(|| panic!("no {key}: {row}"));
        match row["method"].as_str().unwrap() {
            "safemerge" => {
                let [weight, safety] = [0, 1].map(|i| options["weights"][i].as_f64().unwrap());
                let mut text =
                    format!("safemerge,{},weight={weight},safety_weight={safety}", choice(options));
                write!(text, ",arithmetic={}", row["arithmetic"].as_str().unwrap()).unwrap();
                if let Some(density) = number(options, "density") {
                    write!(text, ",density={density}").unwrap();
                }
                if let Some(rescale) = options["rescale"].as_bool() {
                    write!(text, ",rescale={rescale}").unwrap();
                }
                text
            }
            "select" => format!("select,{},weight={}", choice(options), given("lambda")),
            "safelora" => {
                let official = row["quirk"].as_str().is_some_and(|quirk| !quirk.contains("decimals"));
                format!("safelora,{}{}", choice(options), if official { ",official=true" } else { "" })
            }
            "resta" => {
                let density = 1.0 - number(options, "drop").unwrap_or(0.0);
                format!("resta,gamma={},density={density}", given("gamma"))
            }
            "lox" => format!("lox,rank={},strength={}", given("k"), given("c")),
            "safepatch" => format!(
                "safepatch,safety_rate={},helpful_rate={},safety_strength={},helpful_strength={},keep={},rank={}",
                given("a"),
                given("b"),
                given("alpha"),
                given("beta"),
                given("keep"),
                options["rank"].as_str().unwrap()
            ),
            other => panic!("unknown method `{other}`"),
        }
    }

    fn pair(root: &Path, row: &Value) -> Pair {
        let path = |key: &str| row["models"][key].as_str().map(|path| root.join(path));
        let base = files(&path("base").unwrap().join("model.safetensors"));
        let tuned = path("task").or_else(|| path("tuned")).map(|path| open(&path, &base));
        let mut pair = Pair::new(base.clone(), tuned.clone().unwrap_or_else(|| base.clone()));
        let named = |helper: Helper| path(helper.name());
        let own = Helper::ALL.into_iter().filter_map(|helper| Some((helper, named(helper)?)));
        let mask = row["masks"].as_str().map(|path| (Helper::Mask, root.join(path)));
        let opened = |(helper, path): (Helper, PathBuf)| match helper.is_mask() {
            true => (helper, Arc::new(Masks::open(&path)) as SharedWeights),
            false => (helper, open(&path, &base)),
        };
        pair.helpers = own.chain(mask).map(opened).collect();
        if row["options"]["keep"].as_f64() == Some(1.0) {
            // Where all is kept no mask is asked.
            pair.helpers.retain(|helper, _| !helper.is_mask());
        }
        pair
    }

    struct Case<'a> {
        row: &'a Value,
        base: SharedWeights,
        other: Option<SharedWeights>,
        unaligned: Option<SharedWeights>,
        merged: Merged,
        expected: WeightFiles,
    }

    impl Case<'_> {
        fn id(&self) -> &str {
            self.row["id"].as_str().unwrap()
        }

        /// What is not in the expected file is that of a model, bit for bit.
        fn check_bits(&self) {
            let in_file = |name: &str| self.expected.infos().contains_key(name);
            for name in self.merged.infos().keys() {
                let found = self.merged.weight(name).unwrap();
                let same = &self.row["bit_equal_to_base"];
                let of_base =
                    same == "all" || same.as_array().is_some_and(|own| own.iter().any(|own| own == name));
                let expected = match (in_file(name), of_base) {
                    (true, false) => continue,
                    (true, true) => self.base.weight(name).unwrap(),
                    (false, _) => self.other.as_ref().unwrap().weight(name).unwrap().cast(found.info.dtype),
                };
                assert_eq!(found.bytes, expected.bytes, "{} {name}", self.id());
            }
        }

        fn check_numbers(&self) {
            let rule = self.row["compare"].as_str().unwrap();
            let (mut off, mut n) = (0, 0);
            for (name, info) in self.expected.infos() {
                let found = self.merged.weight(name).unwrap();
                assert_eq!(found.info.dtype, info.dtype, "{} {name}", self.id());
                let (found, expected) = (found.to_f32(), self.expected.weight(name).unwrap().to_f32());
                let base = self.base.weight(name).unwrap().to_f32();
                match rule {
                    "f32-near" => near(self.id(), name, &found, &expected, &base),
                    "bf16-once" => {
                        for (found, expected) in found.iter().zip(&expected) {
                            let units = f64::from((found - expected).abs()) / unit(*expected);
                            assert!(
                                units <= 1.0,
                                "{} {name}: {found} is {units} units from {expected}",
                                self.id()
                            );
                            off += usize::from(units > 0.0);
                            n += 1;
                        }
                    }
                    "bf16-ideal" => {
                        let unaligned = self.unaligned.as_ref().unwrap().weight(name).unwrap().to_f32();
                        for i in 0..found.len() {
                            let largest = base[i].abs().max(unaligned[i].abs()).max(expected[i].abs());
                            let units = f64::from((found[i] - expected[i]).abs()) / unit(largest);
                            assert!(units <= 3.0, "{} {name}[{i}]: {units} units", self.id());
                        }
                    }
                    other => panic!("{}: unknown rule `{other}`", self.id()),
                }
            }
            assert!(off as f64 <= 0.001 * f64::from(n), "{}: {off} of {n} numbers differ", self.id());
        }

        /// What was chosen, and by which figures.
        fn check_choice(&self, report: &MergeReport, tables: &Value) {
            let Some(chosen) = self.row["chosen"].as_array() else { return };
            let choice = report.choice.as_ref().unwrap_or_else(|| panic!("{}: nothing to choose", self.id()));
            let found: Vec<&str> =
                choice.weights.iter().filter(|(_, one)| one.chosen).map(|(name, _)| name.as_str()).collect();
            let mut expected: Vec<&str> = chosen.iter().filter_map(Value::as_str).collect();
            expected.sort_unstable();
            assert_eq!(found, expected, "{}", self.id());
            let table = tables[self.row["table"].as_str().unwrap()].as_object().unwrap();
            for (name, figures) in table {
                let one = &choice.weights[name].alignment;
                let near = |what: &str, found: f64, allowed: f64| {
                    let expected = figures[what].as_f64().unwrap();
                    assert!(
                        (found - expected).abs() <= allowed,
                        "{} {name} {what}: {found} is not {expected}",
                        self.id()
                    );
                };
                near("rho", one.rho, 1e-6);
                near("baseline", one.baseline, 1e-6);
                near("contraction", one.contraction, 1e-5 * one.contraction);
                near("norm_delta", one.update_norm, 1e-5 * one.update_norm);
                near("norm_v", one.alignment_norm, 1e-5 * one.alignment_norm);
            }
            for (key, found) in [
                ("pdst_delta", Some(choice.pdst)),
                ("pdst_b", choice.pdst_of_b),
                ("official_pdst", choice.pdst_of_b),
            ] {
                if let Some(expected) = self.row[key].as_f64() {
                    let found = found.unwrap();
                    assert!(
                        (found - expected).abs() <= 1e-6,
                        "{} {key}: {found} is not {expected}",
                        self.id()
                    );
                }
            }
        }
    }

    /// One unit of bf16 at magnitude `x`.
    fn unit(x: f32) -> f64 {
        2f64.powf(f64::from(x.abs().max(f32::MIN_POSITIVE)).log2().floor() - 7.0)
    }

    /// Each number within 5e-7 of the tensor's largest, and the whole update within 2e-5 of its length.
    fn near(id: &str, name: &str, found: &[f32], expected: &[f32], base: &[f32]) {
        let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
        assert!(worst <= 5e-7 * largest, "{id} {name}: {worst} of {largest}");
        let length = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>().sqrt()
        };
        let (off, update) = (length(found, expected), length(expected, base));
        assert!(off <= 2e-5 * update, "{id} {name}: {off} of an update of {update}");
    }

    fn check(root: &Path, row: &Value, tables: &Value) -> String {
        let pair = pair(root, row);
        let resolved = resolve(&spec(row).parse().unwrap(), 0).unwrap();
        let dtype = match row["out_dtype"].as_str().unwrap() {
            "float32" => Dtype::F32,
            "bfloat16" => Dtype::Bf16,
            other => panic!("unknown dtype `{other}`"),
        };
        let merged =
            pair.merged(&resolved, &Dtypes::all(dtype), "").unwrap_or_else(|e| panic!("{}: {e}", row["id"]));
        merged.settle(&|_, _| (), &AtomicBool::new(false)).unwrap();
        let expected = root.join(row["expected"].as_str().unwrap());
        let other = row["others"].as_str().map(|which| match which {
            "base" => pair.base.clone(),
            _ => pair.tuned[0].clone(),
        });
        let case = Case {
            row,
            base: pair.base.clone(),
            other,
            unaligned: pair.helpers.get(&Helper::Unaligned).cloned(),
            merged,
            expected: WeightFiles::open_file(&expected).unwrap(),
        };
        case.check_bits();
        case.check_numbers();
        case.check_choice(&case.merged.report().0, tables);
        row["method"].as_str().unwrap().to_owned()
    }

    /// Two by two, by hand.
    fn by_hand(row: &Value) {
        let matrix = |key: &str| -> Option<Vec<f32>> {
            let rows = row[key].as_array()?;
            Some(
                rows.iter()
                    .flat_map(|row| row.as_array().unwrap())
                    .map(|x| x.as_f64().unwrap() as f32)
                    .collect(),
            )
        };
        let folder = tempfile::tempdir().unwrap();
        let name = "model.layers.0.mlp.up_proj.weight";
        let write = |file: &str, numbers: &[f32]| {
            let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
            let view =
                safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2, 2], &bytes).unwrap();
            let path = folder.path().join(file);
            safetensors::serialize_to_file([(name, view)], None, &path).unwrap();
            files(&path)
        };
        let sum = |a: &[f32], b: &[f32]| -> Vec<f32> { a.iter().zip(b).map(|(a, b)| a + b).collect() };
        let (base, delta) = (matrix("base").unwrap(), matrix("delta").unwrap());
        let mut pair = Pair::new(write("base", &base), write("tuned", &sum(&base, &delta)));
        let safety = matrix("safety_delta").unwrap_or_else(|| vec![0.0; 4]);
        pair.helpers = BTreeMap::from([
            (Helper::Unaligned, write("unaligned", &matrix("unaligned").unwrap())),
            (Helper::Safety, write("safety", &sum(&base, &safety))),
        ]);
        let merged = |text: String| {
            let resolved = resolve(&text.parse().unwrap(), 0).unwrap();
            let merged = pair.merged(&resolved, &Dtypes::all(Dtype::F32), "").unwrap();
            let numbers = merged.weight(name).unwrap().to_f32();
            (numbers, merged.report().0.choice.unwrap().weights[name].alignment)
        };
        let tau = row["tau"].as_f64().unwrap_or(2.0);
        let (led, alignment) = merged(format!("safelora,tau={tau}"));
        let figure = |key: &str| row[key].as_f64().unwrap();
        for (found, key) in
            [(alignment.rho, "rho"), (alignment.contraction, "contraction"), (alignment.baseline, "baseline")]
        {
            assert!((found - figure(key)).abs() < 1e-6 * figure(key).max(1.0), "{key}: {found} in {row}");
        }
        let close = |found: &[f32], delta: &[f32]| {
            let expected = sum(&base, delta);
            let near = found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5 * b.abs().max(1.0));
            assert!(near, "{found:?} is not {expected:?} in {row}");
        };
        close(&led, &matrix("safelora_delta").unwrap_or_else(|| matrix("c_delta").unwrap()));
        if let Some(expected) = matrix("safemerge_delta") {
            let weight = row["a"].as_f64().unwrap();
            close(&merged(format!("safemerge,tau={tau},weight={weight}")).0, &expected);
        }
    }

    fn run(folder: &Path) -> BTreeMap<String, usize> {
        let cases = std::fs::read(folder.join("cases.json")).expect("golden related: no cases.json");
        let cases: Value = serde_json::from_slice(&cases).unwrap();
        let mut run: BTreeMap<String, usize> = BTreeMap::new();
        let mut failed = Vec::new();
        for row in cases["cases"].as_array().unwrap() {
            match std::panic::catch_unwind(|| check(folder, row, &cases["tables"])) {
                Ok(method) => *run.entry(method).or_default() += 1,
                Err(_) => failed.push(row["id"].as_str().unwrap().to_owned()),
            }
        }
        for (nth, row) in cases["hand"].as_array().into_iter().flatten().enumerate() {
            match std::panic::catch_unwind(|| by_hand(row)) {
                Ok(()) => *run.entry("by hand".to_owned()).or_default() += 1,
                Err(_) => failed.push(format!("hand {nth}")),
            }
        }
        let n: usize = run.values().sum();
        let line = format!("golden related: {n} run, 0 unsupported () in {}\n", folder.display());
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        assert!(failed.is_empty(), "{} cases failed: {}", failed.len(), failed.join(", "));
        run
    }

    #[test]
    fn golden_related_merges() {
        let Some(root) = std::env::var_os("FINETUNE_GOLDEN").map(PathBuf::from) else { return };
        let run = run(&root.join("related"));
        for method in ["safemerge", "select", "safelora", "resta", "lox", "safepatch"] {
            assert!(run.contains_key(method), "no case of {method}");
        }
    }
}
