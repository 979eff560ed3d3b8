//! The guide: a page for each part of the program. `finetune guide TOPIC` prints one; here they are documentation.
//!
//! A page is a Markdown file of this folder and a row below. Every command line in them is tried by `tests/it/guide.rs`,
//! or run by the script that is named there.

#![expect(clippy::doc_markdown, reason = "pages are prose, in which HumanEval is a name")]

/// One page.
#[derive(Debug)]
pub struct Topic {
    pub name: &'static str,
    /// The whole page, in Markdown.
    pub text: &'static str,
}

impl Topic {
    /// Its title.
    pub fn title(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches(['#', ' '])
    }
}

/// The page of this name.
pub fn find(name: &str) -> Option<&'static Topic> {
    TOPICS.iter().find(|topic| topic.name == name)
}

macro_rules! topics {
    ($($module:ident $name:literal,)*) => {
        /// Every page, in the order in which they are read.
        pub const TOPICS: &[Topic] =
            &[$(Topic { name: $name, text: include_str!(concat!($name, ".md")) },)*];

        $(
            #[doc = include_str!(concat!($name, ".md"))]
            pub mod $module {}
        )*
    };
}

topics! {
    quick_start "quick-start",
    recipes "recipes",
    studies "studies",
    folders "folders",
    reports "reports",
    commands "commands",
    reproducing "reproducing",
    training "training",
    models "models",
    data "data",
    objectives "objectives",
    merging "merging",
    related "related",
    evaluation "evaluation",
    guard "guard",
    layers "layers",
    steering "steering",
    landscape "landscape",
    hub "hub",
    devices "devices",
    from_llama_factory "from-llama-factory",
    from_mergekit "from-mergekit",
    proof "proof",
}
