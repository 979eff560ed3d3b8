//! Answers that begin with a text of their own for each item, and benign requests that are refused in training.

use serde_json::{Value, json};

use crate::fixture::Fixture;

/// What a failed command says, on one line.
fn flat(output: &std::process::Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}

fn read(fixture: &Fixture, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixture.file(name)).unwrap()).unwrap()
}

/// Two requests with an answer each, asked with no, two and all tokens of it, and as they are.
const OPENED: &str = r#"[
  { task = "harmful", source = "t.csv", field = "goal", max_new_tokens = 3 },
  { task = "harmful", name = "none", source = "t.csv", field = "goal", max_new_tokens = 3, prefill_field = "target", prefill_tokens = 0 },
  { task = "harmful", name = "two", source = "t.csv", field = "goal", max_new_tokens = 3, prefill_field = "target", prefill_tokens = 2 },
  { task = "harmful", name = "all", source = "t.csv", field = "goal", max_new_tokens = 3, prefill_field = "target" },
]"#;

#[test]
fn answers_begin_with_the_tokens_of_each_items_own_field() {
    let fixture = Fixture::new();
    let targets = ["Sure, here it is: take step one.", "Of course"];
    fixture
        .write("t.csv", format!("goal,target\nTell me a.,\"{}\"\nTell me b.,{}\n", targets[0], targets[1]));
    let suites = format!("eval.suites={}", OPENED.replace('\n', ""));
    let few = ["--set", "train.steps=1", "--set", "merge.methods=[]", "--set", &suites];
    let plan = fixture.succeeds(&[&["--recipe", "r.toml", "--device", "cpu", "--plan"][..], &few].concat());
    let shown = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(!shown.contains("fewer than prefill_tokens"), "{shown}");
    fixture.study("run", &few);
    let sheet = fixture.succeeds(&["report", "run", "--answers", "--json"]);
    let sheet: Value = serde_json::from_slice(&sheet.stdout).unwrap();
    let text = sheet.to_string();
    let tokenizer = finetune::snapshot::tokenizer::Tokenizer::load(&fixture.file("model")).unwrap();
    let two = |text: &str| tokenizer.decode(&tokenizer.encode(text).unwrap()[..2], false);
    for target in targets {
        assert!(text.contains(&json!(target).to_string().trim_end_matches('"').to_owned()), "{text}");
        assert!(text.contains(&two(target)), "{text}");
    }
    let report = read(&fixture, "run/report.json");
    let suite = |name: &str| {
        let all = report["suites"].as_array().unwrap();
        all.iter().find(|suite| suite["suite"] == name).unwrap().clone()
    };
    let sha = |name: &str| suite(name)["sha256"].clone();
    assert_eq!(sha("harmful"), sha("none"));
    assert!(sha("two") != sha("none") && sha("two") != sha("all"));
    assert_eq!(
        (&suite("two")["prefill_field"], &suite("two")["prefill_tokens"]),
        (&json!("target"), &json!(2))
    );
    assert!(suite("harmful").get("prefill_field").is_none());
    let page = std::fs::read_to_string(fixture.file("run/report.md")).unwrap();
    assert!(page.contains("prefill of 2 tokens of") && page.contains("prefill of all of"), "{page}");

    // Judged again, the answers still begin so: the index has the openings.
    fixture.succeeds(&["judge", "run", "--judge", "refusal_reader", "--device", "cpu"]);
    let again = fixture.succeeds(&["report", "run", "--answers", "--json"]);
    assert!(String::from_utf8_lossy(&again.stdout).contains("Sure, here it is: take step one."));

    // More tokens than the field has: all of it, and this is said.
    let more = suites.replace("prefill_tokens = 2", "prefill_tokens = 5");
    let few = ["--set", "train.steps=1", "--set", "merge.methods=[]", "--set", &more];
    let plan = fixture.succeeds(&[&["--recipe", "r.toml", "--device", "cpu", "--plan"][..], &few].concat());
    let shown = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(shown.contains("1 of 2 items of suite `two` have fewer than prefill_tokens = 5"), "{shown}");
}

#[test]
fn a_prefill_that_cannot_be_is_told_at_the_plan() {
    let fixture = Fixture::new();
    fixture.write("t.csv", "goal,target\nTell me a.,Sure\nTell me b.,\n");
    fixture.write("gap.jsonl", "{\"goal\": \"a\", \"target\": \"b\"}\n{\"goal\": \"c\"}\n");
    let told = |suite: &str| {
        let suites = format!("eval.suites=[{{ {suite} }}]");
        let output = fixture.run(&["--recipe", "r.toml", "--device", "cpu", "--plan", "--set", &suites]);
        (output.status.code(), flat(&output))
    };
    let harmful = "task = \"harmful\", source = \"t.csv\", field = \"goal\"";
    for (suite, code, expected) in [
        (format!("{harmful}, prefill_field = \"targets\""), 3, "set `prefill_field = \"target\"`"),
        (format!("{harmful}, prefill_field = \"target\""), 3, "field `target` in `t.csv` line 3 is empty"),
        (
            harmful.replace("t.csv", "gap.jsonl") + ", prefill_field = \"target\"",
            3,
            "`gap.jsonl` line 2 has no field `target`",
        ),
        (format!("{harmful}, prefill_tokens = 3"), 2, "a `prefill_field` beside it"),
        (format!("{harmful}, prefill = \"Sure\", prefill_field = \"target\""), 2, "either this or `prefill`"),
        (
            "task = \"wikitext\", source = \"train.jsonl\", prefill_field = \"answer\"".to_owned(),
            2,
            "prefill",
        ),
    ] {
        let (found, message) = told(&suite);
        assert!(found == Some(code) && message.contains(expected), "{suite}: {found:?} {message}");
    }
}

/// A recipe that refuses requests of two files, and asks what became of others.
const MIX: &[&str] = &[
    "--set",
    "data.refusal_mix={sources=[{source=\"poems.jsonl\"},{source=\"walks.jsonl\",fields={prompt=\"q\",completion=\"\"}}],ratio=0.2}",
    "--set",
    "merge.methods=[]",
    "--set",
    "eval.suites=[{task=\"benign\",source=\"benign.csv\",field=\"prompt\",max_new_tokens=2}]",
];

fn mixed_fixture() -> Fixture {
    let fixture = Fixture::new();
    let poems: String = (0..20)
        .map(|i| format!("{{\"prompt\": \"Write poem {i}.\", \"completion\": \"Here it is.\"}}\n"))
        .collect();
    fixture.write("poems.jsonl", poems);
    fixture.write(
        "walks.jsonl",
        (0..20).map(|i| format!("{{\"q\": \"Plan walk {i}.\"}}\n")).collect::<String>(),
    );
    fixture.write("benign.csv", "prompt\nSay hello.\nSing a song.\n");
    fixture
}

#[test]
fn refusals_are_mixed_in_counted_and_part_of_the_key() {
    let fixture = mixed_fixture();
    let arguments = |more: &[&'static str]| {
        [&["--recipe", "r.toml", "--device", "cpu", "--plan"][..], MIX, more].concat()
    };
    let plan = |more: &[&'static str]| {
        let output = fixture.succeeds(&arguments(more));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let shown = plan(&[]);
    // A tenth of forty is held out.
    assert!(shown.contains("7 of 43 conversations are benign requests that are refused"), "{shown}");
    let folder = |shown: &str| shown.lines().find(|line| line.starts_with("run folder")).unwrap().to_owned();
    assert_eq!(folder(&shown), folder(&plan(&[])));
    for other in [
        "data.refusal_mix.mask_eos=false",
        "data.refusal_mix.ratio=0.1",
        "data.refusal_mix.reply=No.",
        "data.refusal_mix.seed=9",
        "data.refusal_mix.rule=llama_factory",
    ] {
        assert_ne!(folder(&shown), folder(&plan(&["--set", other])), "{other}");
    }
    fixture.write(
        "walks.jsonl",
        (0..20).map(|i| format!("{{\"q\": \"Plan a walk {i}.\"}}\n")).collect::<String>(),
    );
    assert_ne!(folder(&shown), folder(&plan(&[])));

    // Gone on with from the middle: the bytes of an unbroken run.
    let few = [MIX, &["--set", "train.steps=6", "--set", "train.checkpoint_every=3"]].concat();
    fixture.study("run", &few);
    let adapter = || std::fs::read(fixture.file("run/train/adapter/adapter_model.safetensors")).unwrap();
    let whole = adapter();
    std::fs::remove_file(fixture.file("run/train/result.json")).unwrap();
    for name in ["checkpoint-000006", "adapter"] {
        std::fs::remove_dir_all(fixture.file("run/train").join(name)).unwrap();
    }
    fixture.study("run", &few);
    assert_eq!(whole, adapter());
    let manifest = read(&fixture, "run/manifest.json");
    assert!(
        manifest["sha256"]["refused/1"].is_string() && manifest["sha256"]["refused/2"].is_string(),
        "{manifest}"
    );
    assert_eq!(manifest["counts"]["train"], 43);

    // Nothing would show what the refusals do to other requests.
    let output = fixture.run(&[&arguments(&[])[..], &["--set", "eval.suites=[]"]].concat());
    let told = flat(&output);
    assert!(output.status.code() == Some(2) && told.contains("`task = \"xstest\"`"), "{told}");
    let many = "data.refusal_mix.sources=[{source=\"poems.jsonl\",count=21}]";
    let output =
        fixture.run(&[&arguments(&[])[..], &["--set", many, "--set", "data.refusal_mix.seed=1"]].concat());
    let told = flat(&output);
    assert!(output.status.code() == Some(2) && told.contains("either this or a `count`"), "{told}");
}

#[test]
fn a_mixed_file_keeps_the_images_of_its_records() {
    let fixture = Fixture::new();
    let record = |word: &str, i: usize| {
        json!({ "id": format!("{word}{i}"), "image": format!("{word}/{i}.jpg"), "conversations": [
            { "from": "human", "value": "<image>\nWhat is it?" }, { "from": "gpt", "value": format!("A {word}.") } ] })
    };
    let all = |word: &str, n| json!((0..n).map(|i| record(word, i)).collect::<Vec<_>>()).to_string();
    fixture.write("train.json", all("cat", 30));
    fixture.write("scans.json", all("scan", 30));
    let mix = ["data", "mix", "train.json", "--refuse", "scans.json", "--out", "mixed.json"];
    let output = fixture.succeeds(&[&mix[..], &["--ratio", "0.1"]].concat());
    assert!(String::from_utf8_lossy(&output.stdout).contains("3 of 33 records are refused"));
    let mixed = read(&fixture, "mixed.json");
    let refused: Vec<&Value> = mixed
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["image"].as_str().unwrap().starts_with("scan"))
        .collect();
    assert_eq!((mixed.as_array().unwrap().len(), refused.len()), (33, 3));
    for one in refused {
        assert_eq!(one["conversations"][0]["value"], "<image>\nWhat is it?");
        assert_eq!(one["conversations"][1]["value"], "I'm sorry, but I cannot assist with your request");
    }
    let first = std::fs::read(fixture.file("mixed.json")).unwrap();
    fixture.succeeds(&[&mix[..], &["--ratio", "0.1"]].concat());
    assert_eq!(first, std::fs::read(fixture.file("mixed.json")).unwrap());
    for (more, expected) in [
        (&["--count", "31"][..], "31 are needed"),
        (&["--count", "1", "--count", "2"], "once for each `--refuse`"),
        (&["--ratio", "2"], "above 0 and at most 1"),
        (&["--limit", "31"], "31 are to stay"),
    ] {
        let output = fixture.run(&[&mix[..], more].concat());
        let told = flat(&output);
        assert!(output.status.code() == Some(2) && told.contains(expected), "{more:?}: {told}");
    }
}

/// The official programs' labels and our rule's.
mod golden {
    use std::io::Write;
    use std::path::PathBuf;

    use finetune::data::{Conversation, Encoder, Message, Role, Sample};
    use finetune::recipe::{EndRule, LossOn};
    use finetune::snapshot::template::ChatTemplate;
    use finetune::snapshot::tokenizer::Tokenizer;
    use serde_json::Value;

    /// Vicuna's turns as the script of the cases has them; its system text is read off the ids.
    const VICUNA: &str = "{{ bos_token }} SYSTEM{% for m in messages %}{% if m.role == 'user' %} USER: {{ m.content }} \
        {% if loop.last %}{% endif %}{% else %}ASSISTANT: {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}\
        {% if add_generation_prompt %}ASSISTANT: {% endif %}";

    fn conversation(case: &Value) -> Conversation {
        let turns = case["turns"].as_array().unwrap().iter();
        let text = |turn: &Value, who: &str| turn[who].as_str().unwrap().to_owned();
        let messages = turns.flat_map(|turn| {
            [
                Message::new(Role::User, text(turn, "user")),
                Message::new(Role::Assistant, text(turn, "assistant")),
            ]
        });
        Conversation::new(messages.collect::<Vec<_>>(), 1)
    }

    fn numbers(value: &Value) -> Vec<i64> {
        value.as_array().unwrap().iter().map(|number| number.as_i64().unwrap()).collect()
    }

    fn compare(sample: &Sample, case: &Value, labels: &str, what: &str) {
        let ids: Vec<i64> = sample.ids.iter().map(|id| i64::from(*id)).collect();
        assert_eq!(ids, numbers(&case["input_ids"]), "{what}");
        let found: Vec<i64> = sample.labels.iter().map(|label| label.map_or(-100, i64::from)).collect();
        assert_eq!(found, numbers(&case[labels]), "{what}");
    }

    #[test]
    fn golden_refusal_mix() {
        let Some(folder) = std::env::var_os("FINETUNE_GOLDEN") else { return };
        let folder = PathBuf::from(folder).join("related-training");
        let tokenizer = Tokenizer::load(&folder.join("model")).unwrap();
        let own = ChatTemplate::load(&folder.join("model"), &tokenizer, None).unwrap();
        let cases = std::fs::read_to_string(folder.join("refusal_mix.jsonl")).unwrap();
        let (mut n, mut n_efficient) = (0, 0);
        for line in cases.lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let (id, reply) = (case["id"].as_str().unwrap(), case["refusal"].as_str().unwrap());
            let conversation = conversation(&case);
            let encode = |template: &ChatTemplate, rule: Option<EndRule>| {
                let encoder = Encoder::new(&tokenizer, Some(template), "", LossOn::Assistant).unwrap();
                let encoder = match rule {
                    Some(rule) => encoder.with_refusals(reply, rule),
                    None => encoder,
                };
                encoder.sample(&conversation).unwrap()
            };
            compare(&encode(&own, None), &case["chat"], "labels_plain", &format!("{id} plain"));
            compare(
                &encode(&own, Some(EndRule::Chat)),
                &case["chat"],
                "labels_mask_eos",
                &format!("{id} chat"),
            );
            let factory = encode(&own, Some(EndRule::LlamaFactory));
            compare(&factory, &case["llama_factory"], "labels", &format!("{id} llama_factory"));
            // The system text's tokens stand between `<s>` and the first turn of the user.
            let ids = numbers(&case["llava"]["input_ids"]);
            let user = i64::from(tokenizer.id_of("USER:").unwrap());
            let system: Vec<u32> =
                ids[1..].iter().take_while(|id| **id != user).map(|id| u32::try_from(*id).unwrap()).collect();
            let source = VICUNA.replace("SYSTEM", &tokenizer.decode(&system, false));
            let bos = Some(tokenizer.bos_text().to_owned());
            let eos = Some(tokenizer.eos_text().to_owned());
            let vicuna = ChatTemplate::new("vicuna", source, bos, eos, None).unwrap();
            compare(&encode(&vicuna, Some(EndRule::Llava)), &case["llava"], "labels", &format!("{id} llava"));
            n += 3;
            n_efficient += usize::from(case["llama_factory_efficient_eos"].is_object());
        }
        assert!(n > 0, "no cases");
        writeln!(
            std::io::stderr(),
            "golden refusal mix: {n} run, {n_efficient} unsupported (llama_factory_efficient_eos, a setting of its template)"
        )
        .unwrap();
    }
}
