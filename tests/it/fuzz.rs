//! Mutated recipes, weight files, indices, templates and data: an error or a result, never a panic.
//!
//! Each test tries some hundred mutations; `FINETUNE_FUZZ=100000` tries as many.

use std::path::Path;

use finetune::data::{Format, Limits, Message, Role, read};
use finetune::recipe::Recipe;
use finetune::seed::rng;
use finetune::snapshot::WeightFiles;
use finetune::snapshot::template::ChatTemplate;
use rand::Rng;

use crate::fixture::{Fixture, RECIPE};

/// How many mutations are tried, the costly ones fewer.
fn tries(costly: usize) -> usize {
    let asked = std::env::var("FINETUNE_FUZZ").ok().and_then(|n| n.parse().ok());
    asked.unwrap_or(600) / costly
}

/// Signs that mean something to a parser are likelier to find a weak spot than noise.
const SIGNS: &[u8] = b"{}[]()\"'=:,.%#\\/0129-eE \n\xff\0";

/// `original` with one to eight bytes changed, added, taken out or doubled; sometimes cut off.
fn mutate(original: &[u8], name: &str, i: usize) -> Vec<u8> {
    let mut stream = rng(1, &format!("{name} {i}"));
    let mut bytes = original.to_vec();
    for _ in 0..=stream.next_u32() % 8 {
        if bytes.is_empty() {
            break;
        }
        let at = stream.next_u32() as usize % bytes.len();
        let sign = SIGNS[stream.next_u32() as usize % SIGNS.len()];
        match stream.next_u32() % 6 {
            0 => bytes[at] = sign,
            1 => bytes.insert(at, sign),
            2 => drop(bytes.remove(at)),
            3 => bytes[at] = stream.next_u32() as u8,
            4 => {
                let end = (at + 1 + stream.next_u32() as usize % 40).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ if stream.next_u32().is_multiple_of(8) => bytes.truncate(at),
            _ => bytes[at] ^= 1 << (stream.next_u32() % 8),
        }
    }
    bytes
}

#[test]
fn mutated_recipes() {
    let reference = include_bytes!("../../recipes/reference.toml");
    for (name, original) in [("recipe", RECIPE.as_bytes()), ("reference", reference)] {
        for i in 0..tries(2) {
            let text = String::from_utf8_lossy(&mutate(original, name, i)).into_owned();
            let _ = Recipe::parse(&text, "mutated", &["train.steps=3".to_owned()]);
        }
    }
}

#[test]
fn mutated_weight_files_and_indices() {
    let fixture = Fixture::new();
    let whole = std::fs::read(fixture.file("model/model.safetensors")).unwrap();
    let header = usize::try_from(u64::from_le_bytes(whole[..8].try_into().unwrap())).unwrap() + 8;
    let file = fixture.file("mutated.safetensors");
    for i in 0..tries(2) {
        // Only the header is read; what follows it keeps its length.
        let mut bytes = mutate(&whole[..header], "header", i);
        bytes.extend(&whole[header..]);
        std::fs::write(&file, bytes).unwrap();
        let _ = WeightFiles::open_file(&file);
    }
    let names = WeightFiles::open_file(&fixture.file("model/model.safetensors")).unwrap();
    let names: Vec<String> = finetune::snapshot::Weights::infos(&names)
        .keys()
        .map(|n| format!("\"{n}\": \"model.safetensors\""))
        .collect();
    let index = format!("{{\"metadata\": {{}}, \"weight_map\": {{{}}}}}", names.join(", "));
    let path = fixture.file("model/model.safetensors.index.json");
    for i in 0..tries(2) {
        std::fs::write(&path, mutate(index.as_bytes(), "index", i)).unwrap();
        let _ = WeightFiles::open(Path::new(&fixture.file("model")));
    }
}

#[test]
fn mutated_templates() {
    let template = "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}{% if loop.last %}{{ message.content | trim }}{% else %}{{ message['content'].strip()[::-1] }}{% endif %}{% endfor %}{% set ns = namespace(n=0) %}{% for i in range(5) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}";
    let messages = [Message::new(Role::User, "a question"), Message::new(Role::Assistant, "an answer")];
    for i in 0..tries(4) {
        let source = String::from_utf8_lossy(&mutate(template.as_bytes(), "template", i)).into_owned();
        if let Ok(template) = ChatTemplate::new("mutated", source, None, None, None) {
            let _ = template.render(&messages, true);
        }
    }
}

#[test]
fn mutated_data() {
    let fixture = Fixture::new();
    let lines = b"{\"question\": \"a\", \"answer\": \"b\"}\n{\"question\": \"c\", \"answer\": \"d\"}\n{\"messages\": [{\"role\": \"user\", \"content\": \"e\"}, {\"role\": \"assistant\", \"content\": \"f\"}]}\n";
    let list = b"[{\"instruction\": \"a\", \"input\": \"b\", \"output\": \"c\"}, {\"instruction\": \"d\", \"input\": \"\", \"output\": \"e\"}]";
    let table = b"question,answer\na,b\n\"c, \"\"d\"\"\",e\n";
    let parquet = include_bytes!("../data/messages-zstd.parquet");
    let format = Format::default();
    let files =
        [("lines.jsonl", &lines[..]), ("list.json", list), ("table.csv", table), ("table.parquet", parquet)];
    for (name, original) in files {
        let path = fixture.file(name);
        for i in 0..tries(4) {
            std::fs::write(&path, mutate(original, name, i)).unwrap();
            let _ = read(&path, &format, Limits::default());
        }
    }
}
