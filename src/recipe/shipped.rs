//! The recipes that are compiled in.

/// A recipe that works without a file.
#[derive(Debug)]
pub struct Shipped {
    /// What `--recipe` finds it by, with or without `.toml`.
    pub name: &'static str,
    pub text: &'static str,
}

impl Shipped {
    /// The first line of its head: what it is for.
    pub fn summary(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches(['#', ' '])
    }
}

/// Every shipped recipe, by name.
pub fn shipped() -> &'static [Shipped] {
    const SHIPPED: &[Shipped] = &[
        Shipped { name: "farn2024", text: include_str!("../../recipes/farn2024.toml") },
        Shipped { name: "gsm8k", text: include_str!("../../recipes/gsm8k.toml") },
        Shipped { name: "guard", text: include_str!("../../recipes/guard.toml") },
        Shipped { name: "quickstart", text: include_str!("../../recipes/quickstart.toml") },
        Shipped { name: "quickstart-study", text: include_str!("../../recipes/quickstart-study.toml") },
        Shipped { name: "reference", text: include_str!("../../recipes/reference.toml") },
        Shipped { name: "refusals", text: include_str!("../../recipes/refusals.toml") },
        Shipped { name: "study-qwen", text: include_str!("../../recipes/study-qwen.toml") },
        Shipped { name: "tiny-aligned", text: include_str!("../../recipes/tiny-aligned.toml") },
        Shipped { name: "tiny-derta", text: include_str!("../../recipes/tiny-derta.toml") },
        Shipped { name: "tiny-dpo", text: include_str!("../../recipes/tiny-dpo.toml") },
        Shipped { name: "tiny-ema", text: include_str!("../../recipes/tiny-ema.toml") },
        Shipped { name: "tiny-guard", text: include_str!("../../recipes/tiny-guard.toml") },
        Shipped { name: "tiny-guarded", text: include_str!("../../recipes/tiny-guarded.toml") },
        Shipped { name: "tiny-helpful", text: include_str!("../../recipes/tiny-helpful.toml") },
        Shipped { name: "tiny-ptst", text: include_str!("../../recipes/tiny-ptst.toml") },
        Shipped { name: "tiny-refusal-mix", text: include_str!("../../recipes/tiny-refusal-mix.toml") },
        Shipped { name: "tiny-related", text: include_str!("../../recipes/tiny-related.toml") },
        Shipped { name: "tiny-safeinstruct", text: include_str!("../../recipes/tiny-safeinstruct.toml") },
        Shipped { name: "tiny-safety", text: include_str!("../../recipes/tiny-safety.toml") },
        Shipped { name: "tiny-sppft", text: include_str!("../../recipes/tiny-sppft.toml") },
        Shipped { name: "tiny-steer", text: include_str!("../../recipes/tiny-steer.toml") },
    ];
    SHIPPED
}
