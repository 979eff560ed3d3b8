//! Merges against mergekit: every case of the golden folder, through its own YAML.

mod golden {
    use std::collections::BTreeMap;
    use std::io::Write;
    use std::path::{Path, PathBuf};
    use std::sync::atomic::AtomicBool;

    use finetune::merge::METHODS;
    use finetune::run::export::{Models, Options, Request, write};
    use finetune::snapshot::template::ChatTemplate;
    use finetune::snapshot::tokenizer::Tokenizer;
    use finetune::snapshot::{Dtype, WeightFiles, Weights};
    use serde_json::Value;

    /// One unit in the last place of `dtype` at magnitude `x`.
    fn unit(x: f32, dtype: Dtype) -> f64 {
        let bits = match dtype {
            Dtype::F32 => 23,
            Dtype::F16 => 10,
            Dtype::Bf16 => 7,
        };
        let exponent = f64::from(x.abs().max(f32::MIN_POSITIVE)).log2().floor();
        2f64.powf(exponent - f64::from(bits))
    }

    struct Case<'a> {
        id: &'a str,
        method: &'a str,
        /// The folders that the YAML names.
        inputs: Vec<PathBuf>,
        found: WeightFiles,
        expected: WeightFiles,
    }

    impl Case<'_> {
        /// The inputs' numbers, those that have the weight in this shape.
        fn inputs(&self, name: &str) -> Vec<Vec<f32>> {
            let n = self.expected.infos()[name].n_elements();
            let open = |folder: &PathBuf| WeightFiles::open_file(&folder.join("model.safetensors")).unwrap();
            let files = self.inputs.iter().map(open);
            files.filter_map(|file| Some(file.weight(name).ok()?.to_f32())).filter(|x| x.len() == n).collect()
        }

        /// Every number within so many units of the peer's, at most this share of them above `near`.
        fn near(&self, allowed: f64, near: f64, share: f64) {
            let (mut off, mut n) = (0, 0);
            for (name, info) in self.expected.infos() {
                assert_eq!(self.found.infos()[name].dtype, info.dtype, "{} {name}", self.id);
                let inputs = self.inputs(name);
                let found = self.found.weight(name).unwrap().to_f32();
                for (i, expected) in self.expected.weight(name).unwrap().to_f32().into_iter().enumerate() {
                    let largest = inputs.iter().map(|x| x[i].abs()).fold(expected.abs(), f32::max);
                    let units = f64::from((found[i] - expected).abs()) / unit(largest, info.dtype);
                    assert!(
                        units <= allowed,
                        "{} {name}[{i}]: {} is {units} units from {expected}",
                        self.id,
                        found[i]
                    );
                    off += usize::from(units > near);
                    n += 1;
                }
            }
            assert!(off as f64 <= share * f64::from(n), "{}: {off} of {n} numbers differ", self.id);
        }

        /// TIES of one model with weight 1: exactly the k largest changes are kept, any of equals.
        fn trimmed(&self, density: f64) {
            for (name, info) in self.expected.infos() {
                let [pre, post] = self.inputs(name).try_into().unwrap();
                let found = self.found.weight(name).unwrap().to_f32();
                let deltas: Vec<f32> = pre.iter().zip(&post).map(|(pre, post)| (post - pre).abs()).collect();
                let k = ((density * info.n_elements() as f64) as usize).max(1);
                let mut sorted = deltas.clone();
                sorted.sort_by(|a, b| b.total_cmp(a));
                let threshold = sorted[k - 1];
                let mut kept = 0;
                for i in 0..pre.len() {
                    let (is_post, is_pre) = (found[i] == pre[i] + (post[i] - pre[i]), found[i] == pre[i]);
                    assert!(is_post || is_pre, "{} {name}[{i}]", self.id);
                    assert!(deltas[i] <= threshold || is_post, "{} {name}[{i}] was dropped", self.id);
                    assert!(deltas[i] >= threshold || is_pre, "{} {name}[{i}] was kept", self.id);
                    kept += usize::from(is_post && !is_pre);
                }
                let moved = deltas.iter().filter(|delta| **delta > 0.0).count();
                assert_eq!(kept, k.min(moved), "{} {name}", self.id);
            }
        }

        /// DARE: what is dropped is the base bit for bit, the rest follows the rule with that mask.
        fn masked(&self, weight: f64, density: f64, rescale: bool) {
            for files in [&self.found, &self.expected] {
                let (mut kept, mut n) = (0usize, 0usize);
                for name in self.expected.infos().keys() {
                    let [pre, post] = self.inputs(name).try_into().unwrap();
                    let merged = files.weight(name).unwrap().to_f32();
                    let delta = |i: usize| f64::from(post[i]) - f64::from(pre[i]);
                    let is_kept = |i: &usize| merged[*i] != pre[*i];
                    let all: f64 = (0..pre.len()).map(|i| delta(i).abs()).sum();
                    let rest: f64 = (0..pre.len()).filter(is_kept).map(|i| delta(i).abs()).sum();
                    let scale = if rescale { all / rest } else { 1.0 };
                    for i in (0..pre.len()).filter(is_kept) {
                        let exact = f64::from(pre[i]) + weight * delta(i) * scale;
                        let largest = pre[i].abs().max(post[i].abs()).max(merged[i].abs());
                        let units = (f64::from(merged[i]) - exact).abs() / unit(largest, Dtype::F32);
                        assert!(units <= 8.0, "{} {name}[{i}]: {units} units", self.id);
                    }
                    kept += (0..pre.len()).filter(is_kept).count();
                    n += pre.len();
                }
                let share = kept as f64 / n as f64;
                assert!((share - density).abs() < 0.02, "{}: {share} of the numbers are kept", self.id);
            }
        }
    }

    /// The first number after `key:` in the YAML.
    fn number(text: &str, key: &str) -> f64 {
        let rest = text.split(&format!("{key}:")).nth(1).unwrap();
        let word: String =
            rest.trim_start().chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        word.parse().unwrap()
    }

    fn check(root: &Path, row: &Value) -> String {
        let id = row["id"].as_str().unwrap();
        let path = root.join(format!("cases/{id}.yml"));
        let text = std::fs::read_to_string(&path).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let models = Models::of_file(&path, root).unwrap();
        let request = Request { seed: row["seed"].as_u64().unwrap(), ..Request::new(models) };
        let options = Options {
            statistics: true,
            digests: false,
            tell: &|_, _| (),
            say: &|_| (),
            stop: &AtomicBool::new(false),
        };
        write(&request, &out, options).unwrap_or_else(|e| panic!("{id}: {e}"));
        let words = text.split(|c: char| c.is_whitespace() || "{},".contains(c));
        let mut inputs: Vec<PathBuf> =
            words.filter(|word| word.starts_with("inputs/")).map(|word| root.join(word)).collect();
        inputs.sort();
        inputs.dedup();
        // `pre` sorts behind `post`, and the checks want it first.
        inputs.reverse();
        let open = |path: &Path| WeightFiles::open_file(path).unwrap();
        let case = Case {
            id,
            method: row["method"].as_str().unwrap(),
            inputs,
            found: open(&out.join("model.safetensors")),
            expected: open(&root.join(format!("cases/{id}.safetensors"))),
        };
        let names = |files: &WeightFiles| files.infos().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&case.found), names(&case.expected), "{id}");
        let config: Value = serde_json::from_slice(&std::fs::read(out.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["vocab_size"], row["out_vocab_size"], "{id}");
        check_tokenizer(&out, row);
        let has_head = case.found.infos().contains_key("lm_head.weight");
        assert_eq!(config["tie_word_embeddings"], !has_head, "{id}: the configuration fits the weights");
        let f32_out = case.expected.infos().values().all(|info| info.dtype == Dtype::F32);
        match row["compare"].as_str().unwrap() {
            "bit-near" if case.method == "multislerp" => case.near(16.0, 16.0, 0.0),
            "bit-near" if f32_out => case.near(8.0, 8.0, 0.0),
            "bit-near" => case.near(1.0, 0.0, 0.001),
            "ideal" => case.near(3.0, 3.0, 0.0),
            "ties-at-threshold" => case.trimmed(number(&text, "density")),
            "given-mask" => {
                case.masked(
                    number(&text, "weight"),
                    number(&text, "density"),
                    !text.contains("rescale: false"),
                );
            }
            other => panic!("{id}: unknown rule `{other}`"),
        }
        case.method.to_owned()
    }

    /// The tokens and the chats of the folder that was written, where the case tells them.
    fn check_tokenizer(out: &Path, row: &Value) {
        let id = row["id"].as_str().unwrap();
        let tokenizer = || Tokenizer::load(out).unwrap();
        if let Some(expected) = row["out_tokens"].as_object() {
            let found = tokenizer().vocabulary();
            assert_eq!(found.len(), expected.len(), "{id}");
            for (token, row) in expected {
                assert_eq!(found.get(token).copied(), row.as_u64().map(|row| row as usize), "{id} {token}");
            }
        }
        for chat in row["chat"].as_array().into_iter().flatten() {
            let template = ChatTemplate::load(out, &tokenizer(), None).unwrap();
            let prompt = chat["add_generation_prompt"].as_bool().unwrap();
            let found = template.render(chat["messages"].as_array().unwrap(), prompt).unwrap();
            assert_eq!(found, chat["text"].as_str().unwrap(), "{id}");
        }
    }

    /// Runs every case of a folder; how many there were of each method.
    fn run(folder: &Path) -> BTreeMap<String, usize> {
        let cases = std::fs::read(folder.join("cases.json")).expect("golden merges: no cases.json");
        let cases: Value = serde_json::from_slice(&cases).unwrap();
        let mut run: BTreeMap<String, usize> = BTreeMap::new();
        let mut failed = Vec::new();
        for row in cases["cases"].as_array().unwrap() {
            match std::panic::catch_unwind(|| check(folder, row)) {
                Ok(method) => *run.entry(method).or_default() += 1,
                Err(_) => failed.push(row["id"].as_str().unwrap().to_owned()),
            }
        }
        let n: usize = run.values().sum();
        let line = format!("golden merge: {n} run, 0 unsupported () in {}\n", folder.display());
        // Past the harness, which keeps what a passing test prints.
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        assert!(failed.is_empty(), "{} cases failed: {}", failed.len(), failed.join(", "));
        assert!(n > 0, "golden merges: the folder has no case");
        run
    }

    #[test]
    fn golden_merges_equal_mergekit() {
        let Some(folder) = std::env::var_os("FINETUNE_GOLDEN") else { return };
        let run = run(&PathBuf::from(folder).join("merge"));
        // Those that mergekit does not have prove themselves beside their code.
        let own = ["extrapolate", "fisher", "restore", "spectral"];
        // A random method that drops something leaves nothing to compare with: it has a case that does not.
        let no_case = ["della_linear"];
        let missing: Vec<&str> = METHODS
            .iter()
            // What looks at more than mergekit's models has goldens of its own: `golden_related`.
            .filter(|method| method.needs.helpers().next().is_none())
            .map(|method| method.name)
            .filter(|name| !own.contains(name) && !no_case.contains(name) && !run.contains_key(*name))
            .collect();
        assert!(missing.is_empty(), "no golden case for {}", missing.join(", "));
    }

    #[test]
    fn golden_tokenizers_equal_mergekit() {
        run(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/merge"));
    }
}
