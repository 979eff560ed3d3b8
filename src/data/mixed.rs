//! A file with refusals mixed in, for training elsewhere: records as they are, their fields untouched.
//!
//! The authors of the benign-refusal mix ([`super::refusal_mix`]) tune models that look at images, which this program does
//! not: its users take the mixed file to LLaVA's own training. A record may have what no text can stand for (`image`, and
//! `<image>` in a turn); nothing of it is read but which request it is, and nothing is changed but the reply that becomes the
//! refusal and what follows it.

use std::collections::HashSet;
use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::draw::{self, Pool, normal, reply_at};
use super::error::DataError;
use super::format::Format;
use super::table::{self, Layout, Limits, Place, Record, kind};
use super::turn::MEDIA;
use crate::recipe::{Field, Form, RefusalMix};
use crate::seed;

/// A mixed file.
#[derive(Debug, Clone)]
pub struct Mixed {
    pub text: String,
    /// Records that are as they were, and records that are refused.
    pub n_plain: usize,
    pub n_refused: usize,
    pub said: Vec<String>,
}

/// A file's records as they are.
struct Raw {
    format: Format,
    records: Vec<(Record, Place)>,
    layout: Layout,
}

/// Mixes refusals of `mix` into the records of `source`, or into `limit` of them, in an order of the seed's; as a JSON array
/// or as JSON lines, whichever `source` is.
///
/// # Errors
///
/// A file is not JSON, has records of no known form or too few requests that `source` lacks.
pub fn mix_file(
    source: &Path,
    limit: Option<usize>,
    mix: &RefusalMix,
    seed: u64,
) -> Result<Mixed, DataError> {
    let seed = mix.seed.unwrap_or(seed);
    let plain = raw(source, Format::default())?;
    let mut taken = HashSet::new();
    for (record, place) in &plain.records {
        let requests = turns(&plain.format, record, place)?.requests;
        taken.extend(requests.iter().map(|request| key(record, request)));
    }
    let n = limit.unwrap_or(plain.records.len());
    if n > plain.records.len() {
        let (path, found) = (source.to_owned(), plain.records.len());
        return Err(DataError::FewRecords { path, found, needed: n });
    }
    let mut out: Vec<Record> = seed::shuffled(plain.records.len(), seed, "limit")[..n]
        .iter()
        .map(|&at| plain.records[at].0.clone())
        .collect();
    let mut pools = Vec::new();
    for (i, one) in mix.sources.iter().enumerate() {
        let raw = raw(Path::new(&one.source), Format::new(one.format, &one.fields))?;
        let refused =
            raw.records.iter().map(|(record, place)| refuse(&raw.format, record, place, mix, (seed, i)));
        pools.push(refused.collect::<Result<Vec<_>, _>>()?);
    }
    let asked = Pool::all(&pools, mix, n);
    let mut said =
        vec![format!("{n} of {} records of `{}` stay as they are", plain.records.len(), source.display())];
    for ((drawn, pool), of) in draw::draw(&asked, &taken, seed)?.into_iter().zip(&pools).zip(&asked) {
        said.push(format!("{} of {} requests of `{}` are refused", drawn.places.len(), pool.len(), of.name));
        out.extend(drawn.places.into_iter().map(|at| pool[at].0.clone()));
    }
    let n_refused = out.len() - n;
    let order = seed::shuffled(out.len(), seed, "refusal_mix/order");
    let text = written(order.into_iter().map(|at| &out[at]), plain.layout);
    Ok(Mixed { text, n_plain: n, n_refused, said })
}

/// Reads all records of a JSON file and finds their form.
fn raw(path: &Path, format: Format) -> Result<Raw, DataError> {
    let mut records = Vec::new();
    let file = table::read::<DataError>(path, Limits::default(), &mut |record, place| {
        records.push((record, place));
        Ok(())
    })?;
    if !matches!(file.layout, Layout::Array | Layout::Lines) {
        return Err(DataError::NotJson { path: path.to_owned(), found: file.to_string() });
    }
    let Some((first, place)) = records.first() else {
        return Err(DataError::Empty { path: path.to_owned() });
    };
    let format = match format.form {
        Form::Auto => format.recognise(first, place)?.0,
        Form::Text => {
            return Err(DataError::UnknownForm { place: place.clone(), found: table::names(first) });
        }
        _ => format,
    };
    Ok(Raw { format, records, layout: file.layout })
}

/// Who says what in a record.
struct Said {
    /// What users say.
    requests: Vec<String>,
    /// Of each reply, its place in the list of turns and how many requests stand before it.
    replies: Vec<(usize, usize)>,
}

/// The turns of a record.
fn turns(format: &Format, record: &Record, place: &Place) -> Result<Said, DataError> {
    let text = |value: Option<&Value>| match value {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let Some([list, role, content]) = list_fields(format) else {
        let fields = match format.form {
            Form::Alpaca => [Field::Instruction, Field::Input].map(|field| format.name(field)).to_vec(),
            _ => vec![format.name(Field::Prompt)],
        };
        missing(record, &fields[0], place)?;
        let request = fields.iter().map(|field| text(record.get(field))).collect::<Vec<_>>().join("\n");
        return Ok(Said { requests: vec![request], replies: vec![(0, 1)] });
    };
    missing(record, &list, place)?;
    let wrong =
        |found, expected| DataError::WrongType { place: place.clone(), field: list.clone(), found, expected };
    let turns =
        record[&list].as_array().ok_or_else(|| wrong(kind(&record[&list]).to_owned(), "a list of turns"))?;
    let (mut requests, mut replies) = (Vec::new(), Vec::new());
    for (at, turn) in turns.iter().enumerate() {
        match turn[&role].as_str() {
            Some("user" | "human") => requests.push(text(turn.get(&content))),
            Some("assistant" | "gpt") => replies.push((at, requests.len())),
            Some(_) => {}
            None => return Err(wrong("a list with a turn of nobody".to_owned(), "turns with a role each")),
        }
    }
    match replies.is_empty() {
        true => Err(wrong("a list without a reply".to_owned(), "turns of which the assistant has one")),
        false => Ok(Said { requests, replies }),
    }
}

/// Of forms with a list of turns, the names of the list, of who speaks and of what is said.
fn list_fields(format: &Format) -> Option<[String; 3]> {
    match format.form {
        Form::Sharegpt => {
            Some([Field::Conversations, Field::From, Field::Value].map(|field| format.name(field)))
        }
        Form::Messages => {
            Some([Field::Messages, Field::Role, Field::Content].map(|field| format.name(field)))
        }
        _ => None,
    }
}

fn missing(record: &Record, field: &str, place: &Place) -> Result<(), DataError> {
    match record.contains_key(field) {
        true => Ok(()),
        false => {
            let (field, found) = (field.to_owned(), table::names(record));
            Err(DataError::MissingField { place: place.clone(), field, found })
        }
    }
}

/// What two requests agree in that are one: the text, and what is looked at or listened to.
fn key(record: &Record, request: &str) -> String {
    let media: Vec<&Value> = MEDIA.into_iter().filter_map(|field| record.get(field)).collect();
    match media.is_empty() {
        true => normal(request),
        false => format!("{}\n{}", normal(request), json!(media)),
    }
}

/// The record with its refusal, and which request it is.
fn refuse(
    format: &Format,
    record: &Record,
    place: &Place,
    mix: &RefusalMix,
    (seed, source): (u64, usize),
) -> Result<(Record, String), DataError> {
    let Said { requests, replies } = turns(format, record, place)?;
    let name = format!("refusal_mix/{source}/turn/{}", place.number);
    let (at, n_before) = replies[reply_at(mix.turn, replies.len(), seed, &name)];
    let request = n_before.checked_sub(1).map_or("", |last| &requests[last]);
    let (key, mut refused) = (key(record, request), record.clone());
    match list_fields(format) {
        Some([list, _, content]) => {
            let turns = refused[&list].as_array_mut().expect("its turns were just read");
            turns.truncate(at + 1);
            turns[at][&content] = json!(mix.reply);
        }
        None => {
            let field = if format.form == Form::Alpaca { Field::Output } else { Field::Completion };
            refused.insert(format.name(field), json!(mix.reply));
        }
    }
    Ok((refused, key))
}

/// A record a line, within brackets and with commas where the file is one array.
fn written<'a>(records: impl Iterator<Item = &'a Record>, layout: Layout) -> String {
    let lines: Vec<String> = records.map(|record| json!(record).to_string()).collect();
    let mut text = String::new();
    match layout {
        Layout::Array => writeln!(text, "[\n{}\n]", lines.join(",\n")),
        _ => writeln!(text, "{}", lines.join("\n")),
    }
    .expect("a string takes all");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;

    /// LLaVA's form: twelve records with images and two questions each.
    fn llava(path: &Path, word: &str) {
        let record = |i: usize| {
            json!({
                "id": format!("{word}-{i}"),
                "image": format!("{word}/{i}.jpg"),
                "conversations": [
                    { "from": "human", "value": "<image>\nWhat is this?" },
                    { "from": "gpt", "value": format!("A {word}.") },
                    { "from": "human", "value": "And what else?" },
                    { "from": "gpt", "value": "Nothing." },
                ],
                "width": 1.5,
            })
        };
        let all: Vec<Value> = (0..12).map(record).collect();
        std::fs::write(path, json!(all).to_string()).unwrap();
    }

    fn mix(source: &Path, more: &str) -> RefusalMix {
        let text = format!(
            "schema = 1\nname = \"x\"\n[model]\nsource = \"m\"\n[data]\nsource = \"d\"\n[data.refusal_mix]\nsources = [{{ \
             source = {:?}, count = 5 }}]\n{more}",
            source.display().to_string()
        );
        Recipe::parse(&text, "test", &[]).unwrap().data.refusal_mix.unwrap()
    }

    #[test]
    fn records_with_images_keep_all_but_the_refused_reply() {
        let folder = tempfile::tempdir().unwrap();
        let [cats, dogs] = ["cats.json", "dogs.json"].map(|name| folder.path().join(name));
        llava(&cats, "cat");
        llava(&dogs, "dog");
        for (more, n_turns) in [("", 4), ("turn = \"first\"", 2)] {
            let found = mix_file(&cats, Some(8), &mix(&dogs, more), 3).unwrap();
            assert_eq!((found.n_plain, found.n_refused), (8, 5));
            let records: Vec<Record> = serde_json::from_str(&found.text).unwrap();
            let before: Vec<Record> = [&cats, &dogs]
                .iter()
                .flat_map(|path| {
                    serde_json::from_slice::<Vec<Record>>(&std::fs::read(path).unwrap()).unwrap()
                })
                .collect();
            let mut n_refused = 0;
            for mut record in records {
                let original = before.iter().find(|other| other["id"] == record["id"]).unwrap();
                assert_eq!(record.keys().collect::<Vec<_>>(), original.keys().collect::<Vec<_>>());
                if record["id"].as_str().unwrap().starts_with("dog") {
                    n_refused += 1;
                    let turns = record["conversations"].as_array_mut().unwrap();
                    assert_eq!(turns.len(), n_turns);
                    let last = turns.last_mut().unwrap();
                    assert_eq!(last["value"], crate::recipe::REFUSAL);
                    last["value"] = original["conversations"][n_turns - 1]["value"].clone();
                    let rest = original["conversations"].as_array().unwrap()[n_turns..].to_vec();
                    turns.extend(rest);
                }
                assert_eq!(&record, original);
            }
            assert_eq!(n_refused, 5);
            assert_eq!(found.text, mix_file(&cats, Some(8), &mix(&dogs, more), 3).unwrap().text);
        }
        // The same question about another image is another request, about the same image the same one.
        let error = mix_file(&cats, None, &mix(&cats, ""), 3).unwrap_err().to_string();
        assert!(
            error.contains("of which 0 stand neither in the data nor twice, and 5 are needed"),
            "{error}"
        );
    }

    #[test]
    fn lines_stay_lines_and_tables_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let lines = |word: &str| {
            (0..9)
                .map(|i| format!("{{\"prompt\":\"{word} {i}\",\"completion\":\"c\",\"tag\":{i}}}\n"))
                .collect::<String>()
        };
        std::fs::write(path("a.jsonl"), lines("a")).unwrap();
        std::fs::write(path("b.jsonl"), lines("b")).unwrap();
        std::fs::write(path("c.csv"), "prompt,completion\na,b\n").unwrap();
        let found = mix_file(&path("a.jsonl"), None, &mix(&path("b.jsonl"), "reply = \"No.\""), 1).unwrap();
        assert_eq!(found.text.lines().count(), 14);
        let is_whole = |line: &str| {
            let known = lines("a").contains(line) || lines("b").contains(&line.replace("\"No.\"", "\"c\""));
            assert!(known, "{line}");
            line.contains("\"No.\"")
        };
        assert_eq!(found.text.lines().filter(|line| is_whole(line)).count(), 5);
        let error = mix_file(&path("c.csv"), None, &mix(&path("b.jsonl"), ""), 1).unwrap_err().to_string();
        assert!(error.contains("is csv, expected a JSON array or JSON lines"), "{error}");
    }
}
