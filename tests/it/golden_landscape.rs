//! Curves, directions and points of the safety landscape against the authors' program, llm-landscape.

#[cfg(test)] // Clippy lets tests unwrap by this mark.
mod golden {
    use std::collections::BTreeMap;
    use std::io::Write;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use finetune::eval::measures::visage::{HalfWidth, area, half_width, visage_code, visage_paper};
    use finetune::merge::direction::{Direction, Toward, moved};
    use finetune::snapshot::{
        Dtype, Dtypes, SharedWeights, SnapshotError, Weight, WeightFiles, WeightInfo, Weights,
    };
    use serde_json::Value;

    /// Of sums of some twenty numbers up to 100 in f64, as the cases' README has it.
    const SCALARS: f64 = 1e-9;
    /// Of a tensor's largest number: the authors' directions are scaled in f32.
    const DIRECTIONS: f64 = 5e-7;
    /// The authors' program walks in up to 20 steps of f32.
    const POINTS: f64 = 5e-6;

    /// The folder of the cases; none where nobody named one.
    fn folder() -> Option<PathBuf> {
        let folder = PathBuf::from(std::env::var_os("FINETUNE_GOLDEN")?).join("related/landscape");
        assert!(folder.is_dir(), "golden landscape: no folder `{}`", folder.display());
        Some(folder)
    }

    fn read(folder: &Path, file: &str) -> Value {
        let path = folder.join(file);
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("`{}`: {e}", path.display()));
        serde_json::from_slice(&bytes).unwrap()
    }

    /// Past the harness, which keeps what a passing test prints.
    fn say(line: &str) {
        std::io::stderr().write_all(format!("golden landscape: {line}\n").as_bytes()).unwrap();
    }

    fn numbers(value: &Value) -> Vec<f64> {
        value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    }

    fn near(what: &str, found: f64, expected: &Value) {
        let expected = expected.as_f64().unwrap();
        assert!((found - expected).abs() <= SCALARS, "{what}: {found} is not {expected}");
    }

    #[test]
    fn golden_curves_have_the_numbers_of_their_sources() {
        let Some(folder) = folder() else { return };
        let cases = read(&folder, "visage.json");
        let curves = cases["curves"].as_array().unwrap();
        let mut n_widths = 0;
        for case in curves {
            let (id, at, success) = (&case["id"], numbers(&case["alpha"]), numbers(&case["asr"]));
            near(&format!("{id} code"), visage_code(&success), &case["visage_code"]);
            near(&format!("{id} paper"), visage_paper(&success), &case["visage_paper"]);
            near(&format!("{id} area"), area(&at, &success), &case["area"]);
            for (rate, expected) in case["half_width"].as_object().unwrap() {
                let found = half_width(&at, &success, 0.0, rate.parse().unwrap());
                let HalfWidth { left, right, half_width, half_width_grid, censored, .. } = found;
                let what = |part: &str| format!("{id} at {rate} {part}");
                near(&what("left"), left, &expected["left"]);
                near(&what("right"), right, &expected["right"]);
                near(&what("half_width"), half_width, &expected["half_width"]);
                near(&what("half_width_grid"), half_width_grid, &expected["half_width_grid"]);
                assert_eq!(expected["censored"], censored, "{}", what("censored"));
                n_widths += 1;
            }
        }
        let mean = &cases["mean_over_directions"];
        let of = |id: &Value| curves.iter().find(|case| case["id"] == *id).unwrap();
        let all: Vec<&Value> = mean["curves"].as_array().unwrap().iter().map(of).collect();
        let mean_of = |number: &dyn Fn(&Value) -> f64| {
            all.iter().map(|case| number(case)).sum::<f64>() / all.len() as f64
        };
        near("mean code", mean_of(&|case| visage_code(&numbers(&case["asr"]))), &mean["visage_code"]);
        near("mean paper", mean_of(&|case| visage_paper(&numbers(&case["asr"]))), &mean["visage_paper"]);
        let area_of = |case: &Value| area(&numbers(&case["alpha"]), &numbers(&case["asr"]));
        near("mean area", mean_of(&area_of), &mean["area"]);
        assert!(!curves.is_empty() && n_widths > 0, "golden landscape: the folder has no curve");
        say(&format!(
            "{} curves and {n_widths} widths run, 0 unsupported () in {}",
            curves.len(),
            folder.display()
        ));
    }

    /// The tensors of a file whose names begin alike.
    struct Tensors {
        infos: BTreeMap<String, WeightInfo>,
        values: BTreeMap<String, Vec<f32>>,
    }

    impl Tensors {
        fn of(file: &dyn Weights, prefix: &str) -> SharedWeights {
            let (mut infos, mut values) = (BTreeMap::new(), BTreeMap::new());
            for (name, info) in file.infos() {
                if let Some(own) = name.strip_prefix(prefix) {
                    infos.insert(own.to_owned(), info.clone());
                    values.insert(own.to_owned(), file.weight(name).unwrap().to_f32());
                }
            }
            assert!(!infos.is_empty(), "golden landscape: no tensor begins with `{prefix}`");
            Arc::new(Self { infos, values })
        }
    }

    impl Weights for Tensors {
        fn infos(&self) -> &BTreeMap<String, WeightInfo> {
            &self.infos
        }

        fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
            Ok(Weight::from_f32(self.infos[name].shape.clone(), &self.values[name]))
        }
    }

    /// The numbers of a weight; zeros where a direction does not move it.
    fn of(weights: &dyn Weights, name: &str, n: usize) -> Vec<f32> {
        match weights.infos().contains_key(name) {
            true => weights.weight(name).unwrap().to_f32(),
            false => vec![0.0; n],
        }
    }

    /// Every number of every weight within so much, of the largest of its tensor if that is asked for.
    fn check(what: &str, found: &dyn Weights, expected: &dyn Weights, allowed: f64, of_largest: bool) {
        for (name, info) in expected.infos() {
            let (found, expected) = (of(found, name, info.n_elements()), of(expected, name, 0));
            assert_eq!(found.len(), expected.len(), "{what} {name}");
            let largest = expected.iter().fold(0.0, |most: f64, x| most.max(f64::from(x.abs())));
            let allowed = if of_largest { allowed * largest } else { allowed };
            for (found, expected) in found.iter().zip(&expected) {
                let far = (f64::from(*found) - f64::from(*expected)).abs();
                assert!(far <= allowed, "{what} {name}: {found} is not {expected}");
            }
        }
    }

    #[test]
    fn golden_points_lie_where_the_authors_put_them() {
        let Some(folder) = folder() else { return };
        let case = read(&folder, "direction.json");
        let root = folder.parent().unwrap();
        let file = WeightFiles::open_file(&root.join(case["file"].as_str().unwrap())).unwrap();
        let some = |prefix: &str| Tensors::of(&file, &format!("{prefix}."));
        let model = some("weight");
        let direction = |noise: &str| Arc::new(Direction::new(some(noise), model.clone())) as SharedWeights;
        let first = direction("noise");
        check("direction", first.as_ref(), some("direction").as_ref(), DIRECTIONS, true);
        let at = |steps: &[(SharedWeights, f64)]| {
            moved("point".to_owned(), model.clone(), steps, &Dtypes::all(Dtype::F32)).unwrap()
        };
        for (noise, step) in [("noise", "step20"), ("noise_b", "step20_b")] {
            // A twentieth of a direction, and the model with it.
            let step = some(step);
            let there = at(&[(direction(noise), 0.05)]);
            let way = Toward::new(model.clone(), Arc::new(there));
            check(noise, &way, step.as_ref(), POINTS, false);
        }
        for k in [0u8, 10, 20] {
            let found = at(&[(first.clone(), f64::from(k) / 20.0 - 0.5)]);
            check("sweep", &found, some(&format!("sweep{k:02}")).as_ref(), POINTS, false);
            if k == 10 {
                // Where the authors' program is off by its rounding.
                check("origin", &found, model.as_ref(), 0.0, false);
            }
        }
        let tuned = root.join(case["tuned"].as_str().unwrap()).join("model.safetensors");
        let tuned = Tensors::of(&WeightFiles::open_file(&tuned).unwrap(), "");
        let toward = Arc::new(Toward::new(model.clone(), tuned)) as SharedWeights;
        for k in [0u8, 5, 15, 20] {
            let found = at(&[(toward.clone(), (f64::from(k) - 5.0) / 10.0)]);
            check("interpolation", &found, some(&format!("interp{k:02}")).as_ref(), POINTS, false);
        }
        say(&format!(
            "10 directions and points run, 1 unsupported (unit: not scaled) in {}",
            folder.display()
        ));
    }
}
