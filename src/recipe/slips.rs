//! Keys that are looked for in the wrong place: in another section, or by the names of other programs.

/// Names of LLaMA-Factory, PEFT, TRL, transformers and Axolotl, and ours.
const ELSEWHERE: &[(&[&str], &str)] = &[
    (&["lr"], "`learning_rate` under `[train]`"),
    (&["loraplus_lr_ratio", "lora_plus_lr_ratio"], "`lora_plus` under `[train]`"),
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
    (&["optim"], "`optimizer` under `[train]`"),
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
    (
        &["quantization_bit", "load_in_4bit", "load_in_8bit"],
        "`quantization` under `[method]`, \"nf4\" or \"int8\"",
    ),
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

/// The key of a recipe that a word stands for, such as `train.learning_rate` for `lr`.
pub fn key(word: &str) -> Option<String> {
    if ["model", "data"].contains(&word) {
        return Some(format!("{word}.source"));
    }
    let named = ELSEWHERE.iter().find(|(names, _)| names.contains(&word)).map(|(_, ours)| *ours);
    if let Some((key, section)) = named.and_then(|ours| ours.split_once(" under `[")) {
        let key = key.trim_matches('`').split(' ').next()?;
        return Some(format!("{}.{key}", section.split(']').next()?));
    }
    sections_of(word).into_iter().next().map(|section| format!("{section}.{word}"))
}

/// What to do with a text that is no TOML, if it is YAML.
pub(super) fn yaml(text: &str, origin: &str) -> Option<String> {
    let lines =
        text.lines().map(str::trim_end).filter(|line| !line.is_empty() && !line.starts_with(['#', '-']));
    let is_key = |line: &str| {
        let key = line.split_once(':').map(|(key, _)| key);
        key.is_some_and(|key| !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
    };
    let mut own = lines.filter(|line| !line.starts_with(' '));
    let is_yaml = own.next().is_some_and(is_key) && own.all(is_key);
    let has = |keys: &[&str]| keys.iter().any(|key| text.lines().any(|line| line.starts_with(key)));
    is_yaml.then(|| match has(&["merge_method:", "models:", "slices:"]) {
        true => format!("mergekit's YAML is taken by `finetune merge --config {origin} --out DIR`"),
        false => "`finetune init` writes a recipe to begin with, and `finetune guide from-llama-factory` names our key for each \
                  of LLaMA-Factory, PEFT and TRL"
            .to_owned(),
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
        assert_eq!(key("seed").unwrap(), "train.seed");
        assert_eq!(key("lora_rank").unwrap(), "method.rank");
        assert_eq!(key("output_dir"), None);
        assert!(
            yaml("merge_method: ties\nmodels:\n  - model: a\n", "m.yml")
                .unwrap()
                .contains("merge --config m.yml")
        );
        assert!(yaml("# x\nlearning_rate: 1e-4\n", "r").unwrap().contains("finetune init"));
        assert_eq!(yaml("name = \"a\"\n[train\n", "r"), None);
        assert_eq!(hint("rank").unwrap(), "`rank` is a key under `[method]`");
        assert_eq!(hint("learning_rat"), None);
    }
}
