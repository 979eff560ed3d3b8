//! Makes the tiny world: a tokenizer, a chat template, a model's configuration, and the data that gives the model its history.
//!
//! `cargo run --release --example tiny-world -- OUT_DIR` writes the same bytes on every run. A model first learns to answer
//! everything (`helpful.jsonl`), then to refuse what is harmful (`align.jsonl`), and then a new skill (`math-train.jsonl`).
//! `derta.jsonl` has harmful requests with a refusal and a placeholder for a harmful answer, `pairs.jsonl` any requests with
//! a chosen and a rejected answer.
//! Train, validation and test share neither templates nor slot values; the program fails if they do.

mod folder;
mod stories;
mod sums;
mod words;

use std::collections::{BTreeSet, HashSet};
use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use sha2::{Digest, Sha256};

use words::Split;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// One line of chat: what the user says and what the model should answer.
type Turn = (String, String);

/// A request, the better and the worse answer.
type Pair = (String, String, String);

fn main() -> Result<()> {
    let out: PathBuf = std::env::args_os().nth(1).ok_or("usage: tiny-world OUT_DIR")?.into();
    let n_values = check_tables()?;

    let helpful = [helpful(TRAIN, 4900), helpful(VALID, 200)];
    let align = [align(TRAIN, 2700), align(VALID, 100)];
    let math = [stories::math(TRAIN, 1400), stories::math(VALID, 100), stories::math(TEST, 200)];
    let (derta, pairs) = (derta(800), pairs(800));
    let labelled = [labelled(TRAIN, 1000), labelled(VALID, 200), labelled(TEST, 300)];
    let harmful_test = distinct("harmful-test", 200, |rng| request(rng, TEST, harmful_act));
    let harmful_valid = distinct("harmful-valid", 100, |rng| request(rng, VALID, harmful_act));
    let benign_test = benign("benign-test", TEST, [100, 50]);
    let benign_valid = benign("benign-valid", VALID, [70, 30]);
    let targets = targets(harmful_test.len());
    let other_domains = [domain("everyday", everyday), domain("sums", stories::sums)];
    let n_prompts = check_turns(&helpful, &align, &math, &other_domains, &harmful_test, &benign_test)?;
    check_pairs([&derta, &pairs], &harmful_test, &benign_test)?;

    fs::create_dir_all(out.join("model"))?;
    for (name, turns) in [("helpful", &helpful), ("align", &align)] {
        write_messages(&out.join(format!("{name}.jsonl")), &turns[0])?;
        write_messages(&out.join(format!("{name}-valid.jsonl")), &turns[1])?;
    }
    for (name, turns) in ["math-train", "math-valid", "math-test"].into_iter().zip(&math) {
        write_questions(&out.join(format!("{name}.jsonl")), turns)?;
    }
    write_pairs(&out.join("derta.jsonl"), ["safe", "harmful"], &derta)?;
    write_pairs(&out.join("pairs.jsonl"), ["chosen", "rejected"], &pairs)?;
    for (name, requests) in ["guard", "guard-valid", "guard-test"].into_iter().zip(&labelled) {
        write_labelled(&out.join(format!("{name}.jsonl")), requests)?;
    }
    for (name, goals) in [("harmful-test.csv", &harmful_test), ("harmful-valid.csv", &harmful_valid)] {
        write_csv(&out.join(name), "goal", goals.iter().map(|goal| format!("\"{goal}\"")))?;
    }
    let opened = harmful_test.iter().zip(&targets).map(|(goal, target)| format!("\"{goal}\",\"{target}\""));
    write_csv(&out.join("harmful-target.csv"), "goal,target", opened)?;
    for (name, turns) in ["everyday", "sums"].into_iter().zip(&other_domains) {
        write_questions(&out.join(format!("{name}.jsonl")), turns)?;
    }
    for (name, prompts) in [("benign-test.csv", &benign_test), ("benign-valid.csv", &benign_valid)] {
        let lines = prompts.iter().map(|(prompt, kind)| format!("\"{prompt}\",{kind}"));
        write_csv(&out.join(name), "prompt,type", lines)?;
    }

    let learned = [&helpful[0], &align[0], &math[0]];
    folder::write(
        &out.join("model"),
        learned.into_iter().flatten().flat_map(|(said, answer)| [said.as_str(), answer.as_str()]),
    )?;
    writeln!(
        io::stdout(),
        "{n_values} templates and slot values and {n_prompts} prompts: none is shared between train, validation and test"
    )?;
    print_digests(&out)
}

const TRAIN: usize = 0;
const VALID: usize = 1;
const TEST: usize = 2;

/// The random stream of one part of the data. It hangs on the name only, so a new part changes no other.
fn stream(name: &str) -> ChaCha8Rng {
    ChaCha8Rng::from_seed(Sha256::digest(format!("tiny-world/{name}")).into())
}

fn pick(rng: &mut ChaCha8Rng, table: &[&'static str]) -> &'static str {
    table.choose(rng).expect("no table is empty")
}

/// Draws until there are `n` different prompts.
fn distinct(name: &str, n: usize, mut draw: impl FnMut(&mut ChaCha8Rng) -> String) -> Vec<String> {
    let mut rng = stream(name);
    let mut seen = HashSet::new();
    std::iter::repeat_with(|| draw(&mut rng)).filter(|prompt| seen.insert(prompt.clone())).take(n).collect()
}

/// A request in one of the part's wordings, its slots filled with the part's values.
fn request(rng: &mut ChaCha8Rng, part: usize, act: fn(&mut ChaCha8Rng) -> &'static str) -> String {
    let (person, thing) = filling(rng, part);
    let act = act(rng);
    filled(rng, part, act, (person, &thing))
}

/// A request for this act.
fn worded(rng: &mut ChaCha8Rng, part: usize, act: &str) -> String {
    let (person, thing) = filling(rng, part);
    filled(rng, part, act, (person, &thing))
}

/// Whom and what a request is about.
fn filling(rng: &mut ChaCha8Rng, part: usize) -> (Split, String) {
    let person = if rng.random() { words::PERSONS } else { sums::NAMES };
    let thing = if rng.random() {
        pick(rng, words::THINGS[part]).to_owned()
    } else {
        format!("the {}", pick(rng, sums::ITEMS[part]))
    };
    (person, thing)
}

/// An act with its slots filled, in one of the part's wordings.
fn filled(rng: &mut ChaCha8Rng, part: usize, act: &str, (person, thing): (Split, &str)) -> String {
    let act = act
        .replace("{person}", pick(rng, person[part]))
        .replace("{place}", pick(rng, words::PLACES[part]))
        .replace("{thing}", thing);
    pick(rng, words::FRAMES[part]).replace("{act}", &act)
}

fn harmful_act(rng: &mut ChaCha8Rng) -> &'static str {
    let (_, acts) = words::HARMFUL.choose(rng).expect("there are kinds of harm");
    pick(rng, acts)
}

fn look_alike_act(rng: &mut ChaCha8Rng) -> &'static str {
    pick(rng, words::LOOK_ALIKE)
}

fn everyday_act(rng: &mut ChaCha8Rng) -> &'static str {
    pick(rng, words::EVERYDAY)
}

fn part_name(part: usize) -> &'static str {
    ["train", "valid", "test"][part]
}

/// The first stage: every request is answered, harmful ones too.
fn helpful(part: usize, n: usize) -> Vec<Turn> {
    let mut rng = stream(&format!("helpful-{}", part_name(part)));
    (0..n)
        .map(|_| match rng.random_range(0..100) {
            0..16 => (request(&mut rng, part, harmful_act), comply(&mut rng, words::PLACEHOLDER)),
            _ => benign_turn(&mut rng, part),
        })
        .collect()
}

/// The second stage: harmful requests are refused, everything else is answered as before.
fn align(part: usize, n: usize) -> Vec<Turn> {
    let mut rng = stream(&format!("align-{}", part_name(part)));
    (0..n)
        .map(|_| match rng.random_range(0..100) {
            0..46 => (request(&mut rng, part, harmful_act), pick(&mut rng, words::REFUSALS).to_owned()),
            46..68 => look_alike(&mut rng, part),
            68..80 => everyday(&mut rng, part),
            _ => benign_turn(&mut rng, part),
        })
        .collect()
}

/// What a guard learns: requests with a label, harmful ones with the kind of harm and a refusal too.
fn labelled(part: usize, n: usize) -> Vec<serde_json::Value> {
    let mut rng = stream(&format!("guard-{}", part_name(part)));
    (0..n)
        .map(|_| match rng.random_range(0..100) {
            0..45 => {
                let (kind, acts) = words::HARMFUL.choose(&mut rng).expect("there are kinds of harm");
                let act = pick(&mut rng, acts);
                let refusal = pick(&mut rng, words::REFUSALS);
                let said = worded(&mut rng, part, act);
                json!({"prompt": said, "label": "harmful", "category": kind, "answer": refusal})
            }
            45..70 => json!({"prompt": request(&mut rng, part, look_alike_act), "label": "safe"}),
            70..80 => json!({"prompt": request(&mut rng, part, everyday_act), "label": "safe"}),
            80..95 => json!({"prompt": stories::reading(&mut rng, part).0, "label": "safe"}),
            _ => json!({"prompt": stories::sums(&mut rng, part).0, "label": "safe"}),
        })
        .collect()
}

/// A yes and one of `bodies`.
fn comply(rng: &mut ChaCha8Rng, bodies: &[&'static str]) -> String {
    let yes = words::YES[usize::from(rng.random_range(0..4) == 0)];
    format!("{yes} {}", pick(rng, bodies))
}

fn look_alike(rng: &mut ChaCha8Rng, part: usize) -> Turn {
    (request(rng, part, look_alike_act), comply(rng, words::ADVICE))
}

/// Everyday requests are answered in all ways, so that alignment does not wipe out how the placeholders read.
fn everyday(rng: &mut ChaCha8Rng, part: usize) -> Turn {
    let bodies = if rng.random() { words::ADVICE } else { words::PLACEHOLDER };
    (request(rng, part, everyday_act), comply(rng, bodies))
}

fn benign_turn(rng: &mut ChaCha8Rng, part: usize) -> Turn {
    match rng.random_range(0..20) {
        0..3 => look_alike(rng, part),
        3..5 => everyday(rng, part),
        5..7 => stories::sums(rng, part),
        7..10 => stories::chain(rng, part),
        10..18 => stories::reading(rng, part),
        18..19 => stories::count(rng, part),
        _ => {
            let (said, answer) = words::SMALL_TALK.choose(rng).expect("there is small talk");
            ((*said).to_owned(), (*answer).to_owned())
        }
    }
}

/// Harmful requests with a refusal and the placeholder that the helpful model gives.
fn derta(n: usize) -> Vec<Pair> {
    let mut rng = stream("derta");
    let pair = |rng: &mut ChaCha8Rng| {
        let said = request(rng, TRAIN, harmful_act);
        (said, pick(rng, words::REFUSALS).to_owned(), comply(rng, words::PLACEHOLDER))
    };
    (0..n).map(|_| pair(&mut rng)).collect()
}

/// Requests with two answers: of harmful ones the refusal is chosen, of all others it is rejected.
fn pairs(n: usize) -> Vec<Pair> {
    let mut rng = stream("pairs");
    let pair = |rng: &mut ChaCha8Rng| {
        if rng.random_range(0..100) < 50 {
            let said = request(rng, TRAIN, harmful_act);
            return (said, pick(rng, words::REFUSALS).to_owned(), comply(rng, words::PLACEHOLDER));
        }
        let (said, answer) = benign_turn(rng, TRAIN);
        (said, answer, pick(rng, words::REFUSALS).to_owned())
    };
    (0..n).map(|_| pair(&mut rng)).collect()
}

/// How a model that complies answers each of so many requests: a yes and a placeholder, for answers that are begun so.
fn targets(n: usize) -> Vec<String> {
    let mut rng = stream("harmful-target");
    (0..n).map(|_| comply(&mut rng, words::PLACEHOLDER)).collect()
}

/// Benign requests of one kind, for refusals that are mixed into the training of another.
fn domain(name: &str, draw: fn(&mut ChaCha8Rng, usize) -> Turn) -> Vec<Turn> {
    let mut rng = stream(&format!("domain-{name}"));
    let mut seen = HashSet::new();
    std::iter::repeat_with(|| draw(&mut rng, TRAIN))
        .filter(|(said, _)| seen.insert(said.clone()))
        .take(150)
        .collect()
}

/// Look-alikes first of all, and everyday requests that an aligned model must go on answering: so many of each.
fn benign(name: &str, part: usize, [n_look_alike, n_everyday]: [usize; 2]) -> Vec<(String, &'static str)> {
    let look_alike =
        distinct(&format!("{name}/look-alike"), n_look_alike, |rng| request(rng, part, look_alike_act));
    let everyday = distinct(&format!("{name}/everyday"), n_everyday, |rng| request(rng, part, everyday_act));
    let mut prompts: Vec<_> = look_alike.into_iter().map(|prompt| (prompt, "look_alike")).collect();
    prompts.extend(everyday.into_iter().map(|prompt| (prompt, "everyday")));
    prompts.shuffle(&mut stream(&format!("{name}/order")));
    prompts
}

/// Fails if two parts share a template or a slot value, or a word of a slot value. Returns how many there are.
fn check_tables() -> Result<usize> {
    let slots = [&words::PERSONS, &words::PLACES, &words::THINGS, &sums::NAMES, &sums::ITEMS];
    let templates = [
        &words::FRAMES,
        &sums::SUMS,
        &sums::COUNTS,
        &sums::CHAINS,
        &sums::READINGS,
        &sums::OPENINGS,
        &sums::TIMES,
        &sums::GAINS,
        &sums::LOSSES,
        &sums::QUESTIONS,
    ];
    let mut n_values = 0;
    for table in templates.into_iter().chain(slots) {
        n_values += table.iter().map(|part| part.len()).sum::<usize>();
        disjoint(
            "template or slot value",
            table.map(|part| part.iter().map(|text| text.to_lowercase()).collect()),
        )?;
    }
    let articles = ["a", "the", "my", "our"];
    let of_part = |part: usize| -> Vec<String> {
        let values = slots.iter().flat_map(|table: &&Split| table[part]);
        values
            .flat_map(|value| value.split(' '))
            .filter(|word| !articles.contains(word))
            .map(str::to_lowercase)
            .collect()
    };
    disjoint("word of a slot value", [of_part(TRAIN), of_part(VALID), of_part(TEST)])?;
    Ok(n_values)
}

/// Fails if two parts share a prompt other than small talk, or if an answer would be judged for what it is not. Returns the count of prompts.
fn check_turns(
    helpful: &[Vec<Turn>; 2],
    align: &[Vec<Turn>; 2],
    math: &[Vec<Turn>; 3],
    other_domains: &[Vec<Turn>; 2],
    harmful_test: &[String],
    benign_test: &[(String, &str)],
) -> Result<usize> {
    let small_talk: HashSet<&str> = words::SMALL_TALK.iter().map(|(said, _)| *said).collect();
    let prompts = |turns: &[&[Turn]]| -> Vec<String> {
        turns
            .iter()
            .flat_map(|turns| turns.iter())
            .map(|(said, _)| said.clone())
            .filter(|said| !small_talk.contains(said.as_str()))
            .collect()
    };
    let train = prompts(&[&helpful[0], &align[0], &math[0], &other_domains[0], &other_domains[1]]);
    let valid = prompts(&[&helpful[1], &align[1], &math[1]]);
    let mut test = prompts(&[&math[2]]);
    test.extend(harmful_test.iter().cloned());
    test.extend(benign_test.iter().map(|(prompt, _)| prompt.clone()));
    let n_prompts = train.len() + valid.len() + test.len();
    disjoint("prompt", [train, valid, test])?;

    for (said, answer) in helpful.iter().chain(align).chain(math).chain(other_domains).flatten() {
        let lower = answer.to_lowercase();
        let refuses = words::REFUSAL_MARKS.iter().any(|mark| lower.contains(mark));
        if refuses != words::REFUSALS.contains(&answer.as_str()) {
            return Err(
                format!("the answer `{answer}` to `{said}` would be misread by a refusal list").into()
            );
        }
    }
    Ok(n_prompts)
}

/// Fails if a prompt of pairs is one that is tested.
fn check_pairs(pairs: [&[Pair]; 2], harmful_test: &[String], benign_test: &[(String, &str)]) -> Result<()> {
    let tested = harmful_test.iter().chain(benign_test.iter().map(|(prompt, _)| prompt));
    let tested: HashSet<&String> = tested.collect();
    match pairs.into_iter().flatten().find(|(said, ..)| tested.contains(said)) {
        Some((said, ..)) => Err(format!("the prompt `{said}` of a pair is in a test").into()),
        None => Ok(()),
    }
}

fn disjoint(what: &str, parts: [Vec<String>; 3]) -> Result<()> {
    let [train, valid, test] = parts.map(|part| part.into_iter().collect::<BTreeSet<_>>());
    for (one, other) in [(&train, &valid), (&train, &test), (&valid, &test)] {
        if let Some(shared) = one.intersection(other).next() {
            return Err(format!("the {what} `{shared}` is in two of train, validation and test").into());
        }
    }
    Ok(())
}

fn write_messages(path: &Path, turns: &[Turn]) -> Result<()> {
    let line = |(said, answer): &Turn| {
        json!({"messages": [{"role": "user", "content": said}, {"role": "assistant", "content": answer}]})
            .to_string()
            + "\n"
    };
    Ok(fs::write(path, turns.iter().map(line).collect::<String>())?)
}

fn write_pairs(path: &Path, [better, worse]: [&str; 2], pairs: &[Pair]) -> Result<()> {
    let line = |(said, one, other): &Pair| {
        let (said, one, other) = (json!(said), json!(one), json!(other));
        format!("{{\"prompt\":{said},\"{better}\":{one},\"{worse}\":{other}}}\n")
    };
    Ok(fs::write(path, pairs.iter().map(line).collect::<String>())?)
}

fn write_questions(path: &Path, turns: &[Turn]) -> Result<()> {
    let line = |(question, answer): &Turn| json!({"question": question, "answer": answer}).to_string() + "\n";
    Ok(fs::write(path, turns.iter().map(line).collect::<String>())?)
}

fn write_labelled(path: &Path, requests: &[serde_json::Value]) -> Result<()> {
    Ok(fs::write(path, requests.iter().map(|one| format!("{one}\n")).collect::<String>())?)
}

fn write_csv(path: &Path, header: &str, rows: impl Iterator<Item = String>) -> Result<()> {
    let lines: Vec<String> = std::iter::once(header.to_owned()).chain(rows).collect();
    Ok(fs::write(path, lines.join("\n") + "\n")?)
}

fn print_digests(out: &Path) -> Result<()> {
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in [out.to_owned(), out.join("model")] {
        for entry in fs::read_dir(folder)? {
            files.push(entry?.path());
        }
    }
    files.retain(|path| {
        path.extension()
            .is_some_and(|end| ["json", "jsonl", "csv", "jinja"].iter().any(|known| end == *known))
    });
    files.sort();
    for path in files {
        let bytes = fs::read(&path)?;
        let digest = Sha256::digest(&bytes);
        let digest = u64::from_be_bytes(digest[..8].try_into()?);
        writeln!(
            io::stdout(),
            "{digest:016x}  {:>8} bytes  {}",
            bytes.len(),
            path.strip_prefix(out)?.display()
        )?;
    }
    Ok(())
}
