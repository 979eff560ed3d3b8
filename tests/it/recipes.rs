//! The reference recipe against the code, and every shipped recipe.

use finetune::recipe::{Recipe, shipped};

const TEXT: &str = include_str!("../../recipes/reference.toml");
const REQUIRED: &str = "schema = 1\nname = \"reference\"\n[model]\nsource = \"path/to/aligned-model\"\n[data]\nsource = \"path/to/train.jsonl\"\n";

#[test]
fn the_reference_recipe_shows_every_key_with_its_default() {
    let text = TEXT;
    let reference = Recipe::parse(text, "reference", &[]).unwrap();
    let defaults = Recipe::parse(REQUIRED, "defaults", &[]).unwrap();
    assert_eq!(reference, defaults);
    // Every key that the code knows is written out, if only as a comment.
    let filled = Recipe {
        model: finetune::recipe::Model {
            dtype: Some(finetune::snapshot::Dtype::Bf16),
            tuned: Some(String::new()),
            ..defaults.model.clone()
        },
        data: finetune::recipe::Data {
            validation_source: Some(String::new()),
            date: Some(String::new()),
            refusal_mix: Some(finetune::recipe::RefusalMix {
                sources: Vec::new(),
                ratio: Some(0.1),
                reply: String::new(),
                turn: finetune::recipe::Turn::Last,
                mask_eos: true,
                rule: finetune::recipe::EndRule::Chat,
                seed: None,
            }),
            guard: Some(finetune::recipe::Labelling::default()),
            ..defaults.data.clone()
        },
        train: finetune::recipe::Train {
            ema: Some(finetune::recipe::Ema { half_life: 0.25, lora: finetune::recipe::OfAdapter::Exact }),
            lora_plus: 16.0,
            optimizer: finetune::recipe::OptimizerKind::Adamw8bit,
            ..defaults.train.clone()
        },
        eval: finetune::recipe::Eval {
            bert_score: Some(finetune::recipe::BertScore {
                model: String::new(),
                layer: 17,
                idf: false,
                rescale: None,
            }),
            ..defaults.eval.clone()
        },
        steer: Some(finetune::recipe::Steer {
            vectors: String::new(),
            alpha: Some(3.5),
            threshold: Some(0.5),
            layers: Some([10, 19]),
            first: finetune::recipe::First::Answer,
            candidates: Some(Vec::new()),
        }),
        merge: finetune::recipe::Merge {
            fisher_source: Some(String::new()),
            budget: Some(0.1),
            ..defaults.merge.clone()
        },
        harden: Some(finetune::recipe::Harden { method: String::new() }),
        objective: objective(),
        guard: Some(finetune::recipe::Guard {
            folder: String::new(),
            candidates: Vec::new(),
            threshold: Some(0.5),
            max_new_tokens: 64,
        }),
        ..defaults
    };
    let table: toml::Table = toml::from_str(&filled.to_toml()).unwrap();
    for (section, keys) in table.iter().filter_map(|(name, value)| Some((name, value.as_table()?))) {
        let body = text.split(&format!("[{section}]")).nth(1).unwrap().split("\n[").next().unwrap();
        for key in keys.keys() {
            let written =
                body.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} =")));
            assert!(written, "`{section}.{key}` is not in the reference recipe");
        }
    }
}

#[test]
fn what_the_reference_recipe_has_as_comments_is_read_once_it_is_none() {
    let commented = TEXT.split("\n# [[gate]]").nth(1).unwrap();
    let lines = format!("[[gate]]{commented}");
    let is_key = |line: &&str| {
        line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
    };
    let lines: Vec<&str> =
        lines.lines().map(|line| line.strip_prefix("# ").unwrap_or(line)).filter(is_key).collect();
    let study = format!("{REQUIRED}\n{}", lines.join("\n"));
    let study = Recipe::parse(&study, "study", &[]).unwrap();
    let grid = study.grid.unwrap();
    assert_eq!(
        (study.gates.len(), grid.variants.len(), grid.contrasts.len(), grid.over_seeds.len()),
        (1, 1, 1, 1)
    );
}

/// An objective with every key.
fn objective() -> finetune::recipe::Objective {
    finetune::recipe::Objective {
        records: Some(Vec::new()),
        rto_keep: Some(1.0),
        rto_draw: Some(finetune::recipe::RtoDraw::Answer),
        rto_weight: Some(1.0),
        refusal_token: Some(String::new()),
        loss: Some(finetune::recipe::PreferenceLoss::Sigmoid),
        beta: Some(0.1),
        label_smoothing: Some(0.1),
        mask_threshold: Some(0.0),
        mask_hysteresis: Some(0.3),
        reward_model: Some(String::new()),
        kl: Some(finetune::recipe::Kl {
            source: String::new(),
            format: finetune::recipe::Form::Auto,
            fields: finetune::recipe::Fields::new(),
            weight: 1.0,
            temperature: 1.0,
            direction: finetune::recipe::Direction::BaseToModel,
            batch: 8,
        }),
        asft: Some(finetune::recipe::Asft {
            unaligned: None,
            weight: 1.0,
            measure: finetune::recipe::Measure::Relative,
            scaled: false,
            projection: finetune::recipe::Projection::Weighted,
        }),
        ..finetune::recipe::Objective::default()
    }
}

#[test]
fn every_shipped_recipe_reads() {
    for recipe in shipped() {
        Recipe::parse(recipe.text, recipe.name, &[]).unwrap();
        assert!(!recipe.summary().is_empty());
    }
}

#[test]
fn the_papers_study_has_a_cell_for_each_of_its_models() {
    let text = include_str!("../../recipes/farn2024.toml");
    let cells = finetune::recipe::cells(text, "farn2024", &[]).unwrap().unwrap();
    let (joint, trained): (Vec<_>, Vec<_>) = cells.iter().partition(|cell| !cell.over.is_empty());
    // Three ways to train, three models, four tasks, three seeds; and the seeds of each merged.
    assert_eq!((trained.len(), joint.len()), (108, 36));
    let tools = trained.iter().find(|cell| cell.name.contains("dropout-0.3_Qwen2.5-7B_tools")).unwrap();
    assert_eq!((tools.recipe.train.stop_at, tools.recipe.method.dropout), (200, 0.3));
    assert_eq!(tools.recipe.model.source, "Qwen/Qwen2.5-7B-Instruct");
    assert_eq!(tools.recipe.eval.suites.len(), 4);
    let merges = trained[0].recipe.merge.specs().unwrap().len();
    assert_eq!((trained[0].group.as_str(), merges), ("Llama-3-8B, reasoning", 27));
}

#[test]
fn the_first_study_asks_what_it_wants_to_know_of_cells_that_it_has() {
    let text = include_str!("../../recipes/study-qwen.toml");
    let cells = finetune::recipe::cells(text, "study-qwen", &[]).unwrap().unwrap();
    let groups: std::collections::BTreeSet<&str> = cells.iter().map(|cell| cell.group.as_str()).collect();
    assert_eq!(groups.into_iter().collect::<Vec<_>>(), ["dropout 0.3", "merging", "weight decay 0.3"]);
    let merges = |cell: &finetune::recipe::Cell| cell.recipe.merge.specs().unwrap().len();
    assert_eq!(cells.iter().map(merges).collect::<Vec<_>>(), [5, 0, 0, 5, 0, 0, 5, 0, 0]);
}

#[test]
fn a_recipe_that_names_no_schema_is_of_the_only_one() {
    let text = "name = \"a\"\nmodel = { source = \"m\" }\ndata = { source = \"d\" }\n";
    assert_eq!(Recipe::parse(text, "r.toml", &[]).unwrap().schema, 1);
}
