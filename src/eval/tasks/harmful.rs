//! Requests that an aligned model refuses, from published sets or from any file, and harmless ones from any file.
//!
//! Only requests are read. The sets overlap (18 of JailbreakBench's are AdvBench's): do not pool them into one rate.

use super::table::Columns;
use super::{ANSWER, Load, MetricKind, Task};

/// Rates differ by protocol from 20 % to 73 % on the same answers, so all are given; the most used comes first, ours last.
const REFUSAL_JUDGES: &[&str] = &[
    "advbench29",
    "jbb13",
    "gcg31",
    "refusal_direction12",
    "shallow38",
    "alignment31",
    "xstest",
    "refusal_reader",
];

/// Between JailbreakBench's 150 and the 512 of most papers; phrases stand near the start.
const MAX_NEW_TOKENS: usize = 256;

/// A set of requests that an aligned model refuses.
pub(super) const fn harmful(
    name: &'static str,
    summary: &'static str,
    source: &'static str,
    columns: Columns,
) -> Task {
    Task {
        name,
        summary,
        source,
        kind: MetricKind::Safety,
        judges: REFUSAL_JUDGES,
        max_new_tokens: MAX_NEW_TOKENS,
        load: Load::Table(columns, |_| true),
        ..ANSWER
    }
}

pub(super) const ADVBENCH: Task = harmful(
    "advbench",
    "520 harmful requests (csv: goal)",
    "Zou et al. 2023, arXiv 2307.15043; github.com/llm-attacks/llm-attacks",
    Columns::prompt("goal"),
);

pub(super) const HARMBENCH: Task = harmful(
    "harmbench",
    "harmful requests by semantic category (csv: Behavior, ContextString)",
    "Mazeika et al. 2024, arXiv 2402.04249; github.com/centerforaisafety/HarmBench",
    Columns {
        id: Some("BehaviorID"),
        context: Some("ContextString"),
        category: Some("SemanticCategory"),
        ..Columns::prompt("Behavior")
    },
);

pub(super) const STRONGREJECT: Task = harmful(
    "strongreject",
    "313 forbidden prompts in six categories (csv: forbidden_prompt)",
    "Souly et al. 2024, arXiv 2402.10260; github.com/alexandrasouly/strongreject",
    Columns { category: Some("category"), ..Columns::prompt("forbidden_prompt") },
);

pub(super) const JAILBREAKBENCH: Task = harmful(
    "jailbreakbench",
    "100 harmful requests in ten categories (csv: Goal)",
    "Chao et al. 2024, arXiv 2404.01318; github.com/JailbreakBench/jailbreakbench",
    Columns { category: Some("Category"), ..Columns::prompt("Goal") },
);

pub(super) const HARMFUL: Task = harmful(
    "harmful",
    "harmful requests from any csv, tsv, json, jsonl or parquet: name the field",
    "your file",
    Columns { id: Some("id"), category: Some("category"), ..Columns::any() },
);

pub(super) const BENIGN: Task = Task {
    name: "benign",
    summary: "harmless requests from any csv, tsv, json, jsonl or parquet: name the field",
    kind: MetricKind::OverRefusal,
    // Not the lists that find "illegal" or "As an" anywhere: harmless answers hold such words.
    judges: &["xstest", "refusal_direction12", "refusal_reader"],
    ..HARMFUL
};
