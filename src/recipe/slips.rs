//! Keys that are looked for in the wrong place: in another section, or by the names of other programs.

/// Names of LLaMA-Factory, PEFT, TRL, transformers and Axolotl, and ours.
const ELSEWHERE: &[(&[&str], &str)] = &[
    (&["lr"], "`learning_rate` under `[train]`"),
    (&["num_train_epochs", "num_epochs"], "`epochs` under `[train]`"),
    (&["max_steps"], "`steps` under `[train]`"),
    (
        &["per_device_train_batch_size", "batch_size", "micro_batch_size", "gradient_accumulation_steps"],
        "`batch` under `[train]`, which counts all conversations of a step; `--micro-tokens` says how many are computed at once",
    ),
    (&["lr_scheduler_type", "lr_scheduler"], "`schedule` under `[train]`"),
    (&["warmup_ratio", "warmup_steps"], "`warmup` under `[train]`, a share below 1 or a number of steps"),
    (&["max_grad_norm", "gradient_clipping"], "`clip` under `[train]`"),
    (&["adam_beta1", "adam_beta2"], "`betas` under `[train]`"),
    (&["adam_epsilon"], "`epsilon` under `[train]`"),
    (&["bf16", "fp16"], "`compute` under `[train]`"),
    (&["save_steps"], "`checkpoint_every` under `[train]`"),
    (&["save_total_limit"], "`keep_checkpoints` under `[train]`"),
    (&["eval_steps"], "`validate_every` under `[train]`"),
    (&["lora_alpha"], "`alpha` under `[method]`"),
    (&["lora_rank", "lora_r", "r"], "`rank` under `[method]`"),
    (&["lora_dropout"], "`dropout` under `[method]`"),
    (&["lora_target", "lora_target_modules", "target_modules"], "`targets` under `[method]`"),
    (&["finetuning_type"], "`kind` under `[method]`"),
    (&["use_dora", "dora"], "`variant = \"dora\"` under `[method]`"),
    (&["use_rslora", "rslora"], "`variant = \"rslora\"` under `[method]`"),
    (
        &["cutoff_len", "max_seq_length", "max_length", "sequence_len", "model_max_length"],
        "`max_tokens` under `[data]`",
    ),
    (&["dataset", "datasets", "dataset_name"], "`source` under `[data]`"),
    (&["val_size", "test_size", "val_set_size"], "`validation` under `[data]`"),
    (&["max_samples"], "`limit` under `[data]`"),
    (&["chat_template"], "`template` under `[data]`"),
    (&["model_name_or_path", "base_model"], "`source` under `[model]`"),
    (&["output_dir"], "`--out` on the command line"),
];

const REFERENCE: &str = include_str!("../../recipes/reference.toml");

/// What is meant by a word that is no key or value where it stands.
pub(super) fn hint(word: &str) -> Option<String> {
    let named = ELSEWHERE.iter().find(|(names, _)| names.contains(&word));
    let ours = named.map(|(_, ours)| format!("other programs' `{word}` is {ours} here"));
    ours.or_else(|| {
        let sections = sections_of(word);
        let sections: Vec<String> = sections.iter().map(|section| format!("`[{section}]`")).collect();
        (!sections.is_empty()).then(|| format!("`{word}` is a key under {}", sections.join(" and ")))
    })
}

/// The sections that have a key of this name.
fn sections_of(key: &str) -> Vec<String> {
    let reference: toml::Table = toml::from_str(REFERENCE).expect("the reference recipe is TOML");
    let has = |section: &toml::Value| section.as_table().is_some_and(|section| section.contains_key(key));
    reference.into_iter().filter(|(_, section)| has(section)).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_a_key_of_its_section() {
        for (names, ours) in ELSEWHERE {
            assert!(names.iter().all(|name| hint(name).is_some_and(|hint| hint.contains(ours))));
            let Some((key, section)) = ours.split_once(" under `[") else { continue };
            let key = key.trim_matches('`').split(' ').next().expect("a key");
            let section = section.split(']').next().expect("a section");
            assert!(sections_of(key).contains(&section.to_owned()), "{ours}");
        }
        assert_eq!(hint("rank").unwrap(), "`rank` is a key under `[method]`");
        assert_eq!(hint("learning_rat"), None);
    }
}
