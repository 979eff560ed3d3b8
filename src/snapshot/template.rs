//! The snapshot's chat template: messages to the text that the model was aligned on.
//!
//! Templates are Jinja programs from strangers. They are rendered as transformers renders them
//! (`trim_blocks`, `lstrip_blocks`, Python's string methods, `json.dumps`), but with a budget: a
//! template that loops or grows ends with an error. The date is pinned, never read from the clock.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::NaiveDate;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, State, UndefinedBehavior, Value};
use serde::Serialize;
use serde_json::{Map, json};

use super::digest;
use super::files::without_mark;
use super::tokenizer::Tokenizer;

mod error;
mod jinja;
mod python;

use crate::folders::{self, SETTINGS_BYTES};
pub use error::TemplateError;
use error::{Cause, FUEL, MAX_BYTES};

/// What a rendering may use before it moves to a large stack. Most need a few hundred.
const FIRST_FUEL: u64 = 20_000;

/// Recursion in the engine is bounded by what a template can nest, and that only by its length and
/// its fuel: 4 KB of stack for each byte of the one, 256 bytes for each unit of the other.
const STACK_BYTES: usize = 256 << 20;

/// Shorter sources cannot exhaust an ordinary stack.
const SHORT_BYTES: usize = 512;

/// A compiled chat template with the special tokens and the day it may use.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// The same with all the fuel, for a large stack.
    patient: Environment<'static>,
    name: String,
    source: String,
    rewritten: jinja::Source,
    bos_token: Option<String>,
    eos_token: Option<String>,
    /// The texts of other tokens that have a name, such as `pad_token`.
    tokens: BTreeMap<String, String>,
    /// What the user gives it beside messages.
    values: Map<String, serde_json::Value>,
    has_system: bool,
}

impl ChatTemplate {
    /// Finds the template of a model folder, in transformers' order: `chat_template.jinja`,
    /// `chat_template.json`, `tokenizer_config.json`.
    ///
    /// `date` is the day that a template sees as today, `YYYY-MM-DD`.
    ///
    /// # Errors
    ///
    /// There is none, or it is malformed.
    pub fn load(folder: &Path, tokenizer: &Tokenizer, date: Option<&str>) -> Result<Self, TemplateError> {
        let jinja = folder.join("chat_template.jinja");
        if jinja.is_file() {
            return Self::from_file(&jinja, tokenizer, date);
        }
        for name in ["chat_template.json", "tokenizer_config.json"] {
            let path = folder.join(name);
            if !path.is_file() {
                continue;
            }
            if let Some(source) = source_in_json(&path)? {
                return Self::with_tokenizer(name, source, tokenizer, date);
            }
        }
        Err(TemplateError::Missing { folder: folder.to_owned() })
    }

    /// Reads a template from a file of its own.
    ///
    /// # Errors
    ///
    /// The file cannot be read or is malformed.
    pub fn from_file(path: &Path, tokenizer: &Tokenizer, date: Option<&str>) -> Result<Self, TemplateError> {
        let unreadable = |source| TemplateError::Unreadable { path: path.to_owned(), source };
        let source = folders::read_text(path, SETTINGS_BYTES).map_err(unreadable)?;
        let name = path.file_name().map_or("template".into(), |name| name.to_string_lossy().into_owned());
        Self::with_tokenizer(&name, source, tokenizer, date)
    }

    /// Compiles a template that knows the tokenizer's special tokens; otherwise as [`Self::new`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn with_tokenizer(
        name: &str,
        source: String,
        tokenizer: &Tokenizer,
        date: Option<&str>,
    ) -> Result<Self, TemplateError> {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let template = Self::new(name, source, some(tokenizer.bos_text()), some(tokenizer.eos_text()), date)?;
        let mut template = Self { tokens: tokenizer.named().clone(), ..template };
        template.has_system = template.shows_system_text();
        Ok(template)
    }

    /// Compiles a template. `name` is what errors call it.
    ///
    /// # Errors
    ///
    /// The source is too large or no Jinja, or `date` is no day.
    pub fn new(
        name: &str,
        source: String,
        bos_token: Option<String>,
        eos_token: Option<String>,
        date: Option<&str>,
    ) -> Result<Self, TemplateError> {
        if source.len() > MAX_BYTES {
            return Err(TemplateError::TooLarge { name: name.to_owned(), found: source.len() });
        }
        let date = date.map(|found| {
            NaiveDate::parse_from_str(found, "%Y-%m-%d")
                .map_err(|_| TemplateError::BadDate { found: found.to_owned() })
        });
        let mut environment = environment(date.transpose()?);
        // Jinja2 reads every kind of line end as one newline.
        let text = source.replace("\r\n", "\n").replace('\r', "\n");
        let syntax = |(line, construct): (usize, &str), cause: String| TemplateError::Syntax {
            name: name.to_owned(),
            line,
            construct: short(construct),
            source: Cause(cause),
        };
        let rewritten = jinja::Source::new(text.clone())
            .map_err(|refused| syntax(jinja::place(&text, refused.at), refused.why.to_owned()))?;
        let mut compile = || {
            environment.add_template_owned("chat", rewritten.text.clone()).map_err(|error| {
                syntax(rewritten.place(error.range(), error.line().unwrap_or(1)), error.to_string())
            })
        };
        if text.len() <= SHORT_BYTES { compile() } else { on_large_stack(name, compile) }?;
        let mut patient = environment.clone();
        patient.set_fuel(Some(FUEL));
        let (name, values) = (name.to_owned(), Map::new());
        let mut template = Self {
            environment,
            patient,
            name,
            source,
            rewritten,
            bos_token,
            eos_token,
            tokens: BTreeMap::new(),
            values,
            has_system: false,
        };
        template.has_system = template.shows_system_text();
        Ok(template)
    }

    /// The same template with what the user gives it, such as Qwen's `enable_thinking`: transformers' and
    /// vLLM's `chat_template_kwargs`.
    #[must_use]
    pub fn with_values(mut self, values: &Map<String, serde_json::Value>) -> Self {
        self.values.clone_from(values);
        self.has_system = self.shows_system_text();
        self
    }

    /// The text of `messages`, each of which has a `role` and a `content`.
    ///
    /// With `add_generation_prompt` the text ends where the assistant's answer begins.
    ///
    /// # Errors
    ///
    /// The template refuses the messages, fails, or uses up its budget.
    pub fn render(
        &self,
        messages: &[impl Serialize],
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        self.render_with(messages, &Map::new(), add_generation_prompt)
    }

    /// The same with what belongs to these messages: `tools`, `documents` and values of their own.
    ///
    /// # Errors
    ///
    /// As [`Self::render`].
    pub fn render_with(
        &self,
        messages: &[impl Serialize],
        given: &Map<String, serde_json::Value>,
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        let optional = |text: &Option<String>| text.clone().map_or(Value::UNDEFINED, Value::from);
        let mut context = BTreeMap::from([("tools", Value::from(())), ("documents", Value::from(()))]);
        context.extend(self.tokens.iter().map(|(name, text)| (name.as_str(), Value::from(text.clone()))));
        let values = self.values.iter().chain(given);
        context.extend(values.map(|(name, value)| (name.as_str(), Value::from(Serde(value)))));
        context.insert("messages", Value::from(Serde(messages)));
        context.insert("add_generation_prompt", add_generation_prompt.into());
        context.insert("bos_token", optional(&self.bos_token));
        context.insert("eos_token", optional(&self.eos_token));
        let context = Value::from(context);
        match self.render_in(&self.environment, context.clone()) {
            Err(TemplateError::OutOfFuel { .. }) => {
                on_large_stack(&self.name, || self.render_in(&self.patient, context))
            }
            result => result,
        }
    }

    fn render_in(&self, environment: &Environment, context: Value) -> Result<String, TemplateError> {
        let template = environment.get_template("chat").expect("the template was added when it was made");
        template.render(context).map_err(|error| self.failure(&error))
    }

    /// Whether a system message's text reaches the model, in a turn of its own or not.
    pub fn has_system(&self) -> bool {
        self.has_system
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it sees as the end of a text; empty if there is none.
    pub fn eos_text(&self) -> &str {
        self.eos_token.as_deref().unwrap_or_default()
    }

    /// The template as it was read.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// SHA-256 of the template's text, in hexadecimal.
    pub fn digest(&self) -> String {
        digest::of_bytes(self.source.as_bytes())
    }

    fn shows_system_text(&self) -> bool {
        const PROBE: &str = "Kw7vprobe";
        let message = |role: &str, content: &str| json!({ "role": role, "content": content });
        let messages = [message("system", PROBE), message("user", "x"), message("assistant", "y")];
        self.render(&messages, false).is_ok_and(|text| text.contains(PROBE))
    }

    fn failure(&self, error: &minijinja::Error) -> TemplateError {
        let name = self.name.clone();
        let (line, construct) = self.rewritten.place(error.range(), error.line().unwrap_or(1));
        let construct = short(construct);
        if error.kind() == ErrorKind::OutOfFuel {
            return TemplateError::OutOfFuel { name, line, construct };
        }
        let mut cause = std::error::Error::source(error);
        while let Some(found) = cause {
            match found.downcast_ref::<python::Exception>() {
                Some(python::Exception::Raised(message)) => {
                    return TemplateError::Raised { name, line, message: message.clone() };
                }
                Some(python::Exception::NoDate) => return TemplateError::NoDate { name, line },
                None => {}
            }
            if let Some(inner) = found.downcast_ref::<minijinja::Error>()
                && inner.kind() == ErrorKind::OutOfFuel
            {
                return TemplateError::OutOfFuel { name, line, construct };
            }
            cause = found.source();
        }
        TemplateError::Render { name, line, construct, source: Cause(error.to_string()) }
    }
}

/// Runs `work` where a deeply nested template cannot exhaust the stack.
fn on_large_stack<T: Send>(
    name: &str,
    work: impl FnOnce() -> Result<T, TemplateError> + Send,
) -> Result<T, TemplateError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work);
        let thread = thread.map_err(|source| TemplateError::NoThread { name: name.to_owned(), source })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn environment(date: Option<NaiveDate>) -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the default delimiters are valid"));
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_fuel(Some(FIRST_FUEL));
    // Only with this do errors know their place.
    environment.set_debug(true);
    python::add(&mut environment);
    environment.add_function("raise_exception", |message: Value| -> Result<Value, minijinja::Error> {
        Err(python::Exception::Raised(message.to_string()).into())
    });
    environment.add_function("strftime_now", move |state: &State, format: &str| {
        let date = date.ok_or(python::Exception::NoDate)?;
        python::strftime(state, date, format)
    });
    environment
}

/// A construct's first line, or what of it fits a message.
fn short(construct: &str) -> String {
    let first_line = construct.trim().lines().next().unwrap_or("");
    let mut short: String = first_line.chars().take(80).collect();
    if short.len() < first_line.len() {
        short.push('…');
    }
    short
}

/// The template for chats in a JSON file, if the file has one.
fn source_in_json(path: &Path) -> Result<Option<String>, TemplateError> {
    use serde_json::Value;
    let bytes = folders::read(path, SETTINGS_BYTES)
        .map_err(|source| TemplateError::Unreadable { path: path.to_owned(), source })?;
    let mut json: Value = serde_json::from_slice(without_mark(&bytes))
        .map_err(|source| TemplateError::BadJson { path: path.to_owned(), source })?;
    let bad = |found: &str| TemplateError::BadValue { path: path.to_owned(), found: found.to_owned() };
    match json.get_mut("chat_template").map(Value::take) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(source)) => Ok(Some(source)),
        Some(Value::Array(entries)) => {
            let default = entries.iter().find(|entry| entry["name"] == "default");
            let source = default.and_then(|entry| entry["template"].as_str());
            source.map(|source| Some(source.to_owned())).ok_or_else(|| bad("a list without such an entry"))
        }
        Some(_) => Err(bad("something else")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

    fn template(source: &str) -> Result<ChatTemplate, TemplateError> {
        ChatTemplate::new("test.jinja", source.to_owned(), Some("<s>".into()), None, None)
    }

    fn user(content: &str) -> Vec<serde_json::Value> {
        vec![json!({"role": "user", "content": content})]
    }

    fn render(source: &str) -> Result<String, TemplateError> {
        template(source)?.render(&user("x"), false)
    }

    #[test]
    fn values_of_the_user_and_of_the_data_are_seen() {
        let source =
            "{{ enable_thinking }}|{{ tools }}|{{ messages[0].content }}|{{ add_generation_prompt }}";
        let plain = template(source).unwrap();
        assert_eq!(plain.render(&user("x"), false).unwrap(), "|None|x|False");
        let serde_json::Value::Object(values) = json!({"enable_thinking": false, "messages": [], "tools": 1})
        else {
            panic!()
        };
        let given = template(source).unwrap().with_values(&values);
        assert_eq!(given.render(&user("x"), true).unwrap(), "False|1|x|True");
        let serde_json::Value::Object(tools) = json!({"tools": ["f"], "enable_thinking": true}) else {
            panic!()
        };
        assert_eq!(given.render_with(&user("x"), &tools, true).unwrap(), "True|['f']|x|True");
    }

    mod golden {
        use super::*;

        /// Templates that transformers renders and we do not, and why.
        const UNLIKE: &[(&str, &str)] = &[
            ("with-scope", "refused: the engine sets the first name before it computes the second"),
            ("loop-unpacks-string", "error: the engine unpacks no string"),
            ("cycler-and-joiner", "error: no published template uses them"),
            ("macro-default-of-earlier-argument", "refused: the engine computes the default too early"),
            ("macro-varargs-and-kwargs", "refused: the engine lacks them"),
            ("macro-attributes", "another text: the engine prints a macro's arguments as a list, no tuple"),
            ("str-swapcase-casefold", "error: no published template uses them"),
            ("str-is-digit-unicode", "error: needs Unicode's table of digits"),
            ("str-is-decimal", "error: needs Unicode's table of digits"),
            ("str-is-title-identifier", "error: no published template uses them"),
            ("str-expandtabs", "error: no published template uses it"),
            ("str-translate", "error: no published template uses it"),
            ("str-format-conversion", "error: the engine's `format` lacks it"),
            ("str-format-percent", "error: the engine's `format` lacks it"),
            ("str-percent-repr", "error: the engine's `%` lacks `%r`"),
            ("filter-truncate", "error: no published template uses it"),
            ("filter-wordwrap", "error: no published template uses it"),
            ("filter-urlencode", "error: no published template uses it"),
            ("filter-striptags", "error: no published template uses it"),
            ("filter-filesizeformat", "error: no published template uses it"),
            ("context-self", "refused: the engine has only the blocks of `self`"),
            ("unicode-names", "error: the engine reads only names in ASCII"),
        ];

        /// Templates that fail in transformers and render here: the engine orders all values, and looks
        /// for the text of a number in a text.
        const ACCEPTED: &[&str] = &["undefined-less-than", "string-less-than-integer", "integer-in-string"];

        fn golden() -> serde_json::Value {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/templates.json");
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
        }

        fn rendered(golden: &serde_json::Value, case: &serde_json::Value) -> Result<String, TemplateError> {
            let source = golden["templates"][case["template"].as_str().unwrap()].as_str().unwrap().to_owned();
            let (bos, eos) = (Some("<s>".into()), Some("</s>".into()));
            let template = ChatTemplate::new("golden", source, bos, eos, golden["date"].as_str())?;
            let messages = &golden["conversations"][case["conversation"].as_str().unwrap()];
            template.render(messages.as_array().unwrap(), case["prompt"] == true)
        }

        /// `templates.json` holds what transformers rendered (`make_templates.py` beside it).
        #[test]
        fn templates_render_as_in_transformers() {
            let golden = golden();
            let mut wrong = Vec::new();
            let cases = golden["cases"].as_array().unwrap();
            for case in cases {
                let rendered = rendered(&golden, case);
                let same = match &rendered {
                    Ok(text) => case["text"] == text.as_str(),
                    Err(TemplateError::Raised { message, .. }) => case["raises"] == message.as_str(),
                    Err(_) => false,
                };
                let is_unlike = UNLIKE.iter().any(|(name, _)| case["template"] == *name);
                if same == is_unlike {
                    wrong.push(format!(
                        "{} × {}: {rendered:?}\nexpected {case}",
                        case["template"], case["conversation"]
                    ));
                }
            }
            assert!(
                wrong.is_empty(),
                "{} of {} are not as listed\n{}",
                wrong.len(),
                cases.len(),
                wrong.join("\n\n")
            );
        }

        #[test]
        fn what_fails_in_transformers_is_an_error() {
            let golden = golden();
            for case in golden["errors"].as_array().unwrap() {
                let is_accepted = ACCEPTED.iter().any(|name| case["template"] == *name);
                let rendered = rendered(&golden, case);
                assert_eq!(rendered.is_ok(), is_accepted, "{}: {rendered:?}", case["template"]);
            }
        }
    }

    #[test]
    fn a_turn_is_rendered_with_and_without_the_generation_prompt() {
        let template = template(CHATML).unwrap();
        assert_eq!(template.render(&user("hi"), false).unwrap(), "<|im_start|>user\nhi<|im_end|>\n");
        let open = template.render(&user("hi"), true).unwrap();
        assert_eq!(open, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
    }

    #[test]
    fn a_template_that_shows_no_system_text_has_no_system_role() {
        assert!(template(CHATML).unwrap().has_system());
        let refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}";
        assert!(!template(refuses).unwrap().has_system());
        assert!(!template("{{ messages[-1].content }}").unwrap().has_system());
    }

    #[test]
    fn the_digest_is_of_the_text_as_read() {
        let template = template("a\r\n").unwrap();
        assert_eq!(template.digest(), "8e4621379786ef42a4fec155cd525c291dd7db3c1fde3478522f4f61c03fd1bd");
    }

    #[test]
    fn an_error_names_line_and_construct() {
        let error = render("a\n{{ messages[0].content.frobnicate() }}").unwrap_err();
        assert!(
            matches!(&error, TemplateError::Render { line: 2, construct, .. } if construct.contains("frobnicate")),
            "{error:?}"
        );
        let error = render("a\n\n{% for %}").unwrap_err();
        assert!(matches!(&error, TemplateError::Syntax { line: 3, .. }), "{error:?}");
        let error = render("{% if true %}{{ raise_exception('not so') }}{% endif %}").unwrap_err();
        assert!(
            matches!(&error, TemplateError::Raised { line: 1, message, .. } if message == "not so"),
            "{error:?}"
        );
    }

    #[test]
    fn a_date_that_is_not_pinned_is_not_invented() {
        let source = "\n{{ strftime_now('%d %b %Y') }}";
        let error = render(source).unwrap_err();
        assert!(matches!(error, TemplateError::NoDate { line: 2, .. }), "{error:?}");
        let pinned = |date| ChatTemplate::new("t", source.to_owned(), None, None, Some(date));
        assert_eq!(pinned("2024-07-06").unwrap().render(&user("x"), false).unwrap(), "\n06 Jul 2024");
        assert!(matches!(pinned("6.7.2024"), Err(TemplateError::BadDate { .. })));
    }

    #[test]
    fn a_template_that_never_ends_is_stopped() {
        let hostile = [
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "{% set ns = namespace(x='aaaaaaaaaaaaaaaa') %}{% for a in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
            "{{ 'a' * 99999999999 }}",
            "{% set ns = namespace(x=[1]) %}{% for a in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}",
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "{% set ns = namespace(x='ab') %}{% for a in range(60) %}{% set ns.x = ns.x.replace('a', ns.x) %}{% endfor %}{{ ns.x }}",
            "{{ 'a'.rjust(99999999999) }}",
            "{{ '%099999999999d' % 3 }}",
            "{{ '{:>99999999999}'.format('a') }}",
            "{{ range(99999999999) | list }}",
            "{{ 'x' | center(99999999999) }}{{ 'x' | indent(99999999999) }}",
            "{{ '7'.zfill(99999999999) }}",
            "{{ '%99999999999s' % 'a' }}",
            "{{ ('a' * 9999) | list | join('b' * 9999) }}",
        ];
        for source in hostile {
            let clock = std::time::Instant::now();
            let outcome = render(source);
            assert!(outcome.is_err() || outcome.is_ok_and(|text| text.len() < 1_000_000), "{source}");
            assert!(clock.elapsed().as_secs() < 20, "{source}: {:?}", clock.elapsed());
        }
        let loops = render(hostile[0]).unwrap_err();
        assert!(matches!(loops, TemplateError::OutOfFuel { .. }), "{loops:?}");
    }

    #[test]
    fn deep_nesting_does_not_exhaust_the_stack() {
        let chains = [
            "not ",
            "-",
            "x.",
            "x ~ ",
            "1 if 1 else ",
            "x**",
            "1 and ",
            "x|e|",
            "(",
            "[",
            "x[1:",
            "x(",
            "{'a':",
        ];
        for chain in chains {
            for n in [100, (MAX_BYTES / chain.len() - 2).min(8000)] {
                let _ = render(&format!("{{{{ {}1 }}}}", chain.repeat(n)));
            }
        }
        for block in
            ["{% if 1 %}", "{% for m in [1] %}", "{% macro a() %}", "{% set a %}", "{% filter upper %}"]
        {
            let _ = render(&block.repeat(MAX_BYTES / block.len()));
        }
        for end in [
            "",
            "{{ ns.x | string | length }}",
            "{{ ns.x == [ns.x] }}",
            "{{ ns.x | tojson }}",
            "{{ ns.x.y() }}",
        ] {
            let nest = "{% set ns = namespace(x=[1]) %}{% for a in range(30000) %}{% set ns.x = [ns.x] %}{% endfor %}";
            let _ = render(&format!("{nest}{end}"));
        }
    }

    #[test]
    fn the_template_is_found_in_each_of_its_places() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let inner = tokenizers::Tokenizer::new(tokenizers::models::bpe::BPE::default());
        let tokenizer = Tokenizer::new(inner);
        let found = || ChatTemplate::load(folder.path(), &tokenizer, None).map(|template| template.source);
        assert!(matches!(found(), Err(TemplateError::Missing { .. })));
        write(
            "tokenizer_config.json",
            r#"{"chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]}"#,
        );
        assert_eq!(found().unwrap(), "d");
        write("tokenizer_config.json", r#"{"chat_template": [{"name": "rag", "template": "r"}]}"#);
        assert!(matches!(found(), Err(TemplateError::BadValue { .. })));
        write("chat_template.json", r#"{"chat_template": "j"}"#);
        assert_eq!(found().unwrap(), "j");
        write("chat_template.jinja", "file");
        assert_eq!(found().unwrap(), "file");
        std::fs::write(folder.path().join("chat_template.jinja"), [0xff]).unwrap();
        assert!(matches!(found(), Err(TemplateError::Unreadable { .. })));
    }

    #[test]
    fn generation_tags_only_scope() {
        let source = "a\n{% generation %}\nb\n{%- endgeneration -%}\nc";
        assert_eq!(render(source).unwrap(), "a\nbc");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_mutated_template_ends_and_does_not_panic(
            edits in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(vec![
                "", "{%", "%}", "{{", "}}", "-", "'", "(", ")", "[", "]", "|", ".", "for", "endfor", "in", "messages",
                "99999999", "loop", "*", "~", "set", "macro", "é", "\0", "{#", "namespace", ":", "strip", "split",
            ])), 1..12),
        ) {
            let sources = [CHATML, "{% set ns = namespace(a='') %}{% for m in messages[::-1] %}{% set ns.a = ns.a + m.content.strip()[1:] | tojson(indent=2) %}{% endfor %}{{ ns.a.split('a')[-1] * 3 }}"];
            for source in sources {
                let mut chars: Vec<char> = source.chars().collect();
                for (at, insert) in &edits {
                    let at = at.index(chars.len());
                    if insert.is_empty() { chars.remove(at); } else { chars.splice(at..at, insert.chars()); }
                }
                let _ = render(&chars.into_iter().collect::<String>());
            }
        }
    }
}
