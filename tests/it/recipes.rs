//! The reference recipe against the code, and every shipped recipe.

use finetune::recipe::{Recipe, shipped};

#[test]
fn the_reference_recipe_shows_every_key_with_its_default() {
    let text = include_str!("../../recipes/reference.toml");
    let required = "schema = 1\nname = \"reference\"\n[model]\nsource = \"path/to/aligned-model\"\n[data]\nsource = \"path/to/train.jsonl\"\n";
    let reference = Recipe::parse(text, "reference", &[]).unwrap();
    let defaults = Recipe::parse(required, "defaults", &[]).unwrap();
    assert_eq!(reference, defaults);
    // Every key that the code knows is written out, if only as a comment.
    let filled = Recipe {
        model: finetune::recipe::Model {
            dtype: Some(finetune::snapshot::Dtype::Bf16),
            ..defaults.model.clone()
        },
        data: finetune::recipe::Data {
            validation_source: Some(String::new()),
            date: Some(String::new()),
            ..defaults.data.clone()
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
        merge: finetune::recipe::Merge { fisher_source: Some(String::new()), ..defaults.merge.clone() },
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
fn every_shipped_recipe_reads() {
    for recipe in shipped() {
        Recipe::parse(recipe.text, recipe.name, &[]).unwrap();
        assert!(!recipe.summary().is_empty());
    }
}

#[test]
fn a_recipe_that_names_no_schema_is_of_the_only_one() {
    let text = "name = \"a\"\nmodel = { source = \"m\" }\ndata = { source = \"d\" }\n";
    assert_eq!(Recipe::parse(text, "r.toml", &[]).unwrap().schema, 1);
}
