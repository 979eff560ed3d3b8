//! What a run leaves for those who watch: curves that `TensorBoard` reads, and a view of what runs elsewhere.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::fixture::{Fixture, RECIPE};

/// CRC-32C by a table, of which the program has none.
fn crc32c(bytes: &[u8]) -> u32 {
    let table: Vec<u32> = (0..256u32)
        .map(|byte| (0..8).fold(byte, |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())))
        .collect();
    !bytes.iter().fold(u32::MAX, |crc, byte| (crc >> 8) ^ table[((crc ^ u32::from(*byte)) & 0xff) as usize])
}

/// Undoes what `TFRecord` does to a checksum.
fn unmasked(masked: u32) -> u32 {
    masked.wrapping_sub(0xa282_ead8).rotate_left(15)
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().unwrap())
}

/// The records of a file; every length and every content has the checksum that it should.
fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        assert_eq!(unmasked(number(&bytes[8..12])), crc32c(&bytes[..8]));
        let contents = &bytes[12..12 + n];
        assert_eq!(unmasked(number(&bytes[12 + n..16 + n])), crc32c(contents));
        found.push(contents.to_vec());
        bytes = &bytes[16 + n..];
    }
    found
}

#[derive(Debug, Clone, PartialEq)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
    Double(f64),
    Float(f32),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut found = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        found |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    found
}

/// The fields of a message of protobuf.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Number(varint(&mut bytes)),
            1 => {
                let (own, rest) = bytes.split_at(8);
                bytes = rest;
                Field::Double(f64::from_le_bytes(own.try_into().unwrap()))
            }
            2 => {
                let n = varint(&mut bytes) as usize;
                let (own, rest) = bytes.split_at(n);
                bytes = rest;
                Field::Bytes(own.to_vec())
            }
            5 => {
                let (own, rest) = bytes.split_at(4);
                bytes = rest;
                Field::Float(f32::from_le_bytes(own.try_into().unwrap()))
            }
            kind => panic!("field of kind {kind}"),
        };
        found.push((key >> 3, field));
    }
    found
}

fn of(fields: &[(u64, Field)], wanted: u64) -> Option<Field> {
    fields.iter().find(|(number, _)| *number == wanted).map(|(_, field)| field.clone())
}

/// By tag, step and value.
type Curves = BTreeMap<String, Vec<(u64, f32)>>;

/// What the event files of a folder hold: by tag, step and value; and the steps with which sittings began anew.
fn curves(folder: &Path) -> (Curves, Vec<u64>) {
    let (mut curves, mut restarts) = (Curves::new(), Vec::new());
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        assert!(file.file_name().unwrap().to_string_lossy().starts_with("events.out.tfevents."));
        let all = records(&std::fs::read(&file).unwrap());
        assert_eq!(of(&fields(&all[0]), 3), Some(Field::Bytes(b"brain.Event:2".to_vec())));
        for record in &all[1..] {
            let event = fields(record);
            assert!(matches!(of(&event, 1), Some(Field::Double(time)) if time > 1e9));
            let Some(Field::Number(step)) = of(&event, 2) else { panic!("an event without a step") };
            if let Some(Field::Bytes(log)) = of(&event, 7) {
                assert_eq!(of(&fields(&log), 1), Some(Field::Number(1)));
                restarts.push(step);
            }
            let Some(Field::Bytes(summary)) = of(&event, 5) else { continue };
            for (_, value) in fields(&summary) {
                let Field::Bytes(value) = value else { panic!("a summary has values") };
                let value = fields(&value);
                let (Some(Field::Bytes(tag)), Some(Field::Float(number))) = (of(&value, 1), of(&value, 2))
                else {
                    panic!("a value has a tag and a number")
                };
                curves.entry(String::from_utf8(tag).unwrap()).or_default().push((step, number));
            }
        }
    }
    (curves, restarts)
}

#[test]
fn curves_are_event_files_with_the_numbers_of_metrics_csv() {
    let fixture = Fixture::new();
    fixture.study(
        "run",
        &["--set", "train.steps=5", "--set", "data.validation=0.2", "--set", "train.validate_every=2"],
    );
    let (curves, restarts) = curves(&fixture.file("run/tensorboard"));
    assert_eq!(restarts, [1]);
    let metrics = std::fs::read_to_string(fixture.file("run/metrics.csv")).unwrap();
    let names: Vec<&str> = metrics.lines().next().unwrap().split(',').collect();
    for (tag, column) in [
        ("train/loss", "loss"),
        ("train/gradient_norm", "gradient_norm"),
        ("train/learning_rate", "learning_rate"),
        ("train/padding", "padding"),
        ("validation/loss", "validation_loss"),
    ] {
        let place = names.iter().position(|name| *name == column).unwrap();
        let rows = metrics.lines().skip(1).map(|row| row.split(',').collect::<Vec<_>>());
        let rows: Vec<(u64, f32)> = rows
            .filter(|row| !row[place].is_empty())
            .map(|row| (row[0].parse().unwrap(), row[place].parse::<f64>().unwrap() as f32))
            .collect();
        assert!(!rows.is_empty(), "{column}");
        assert_eq!(curves[tag], rows, "{tag}");
    }
    assert!(curves["train/tokens_per_second"].iter().all(|(_, rate)| *rate > 0.0));
}

#[test]
fn a_run_that_is_over_and_one_that_was_killed_are_told_as_they_are() {
    let fixture = Fixture::new();
    fixture.study("run", &["--set", "train.steps=4"]);
    let said = |arguments: &[&str]| String::from_utf8_lossy(&fixture.succeeds(arguments).stdout).into_owned();
    let text = said(&["watch", "run", "--once"]);
    assert!(text.starts_with("run        done; last heard of "), "{text}");
    assert!(text.contains("done       train, base, tuned, linear:0.5, slerp:0.5"), "{text}");
    // What is over is shown once, and nobody waits for more.
    assert!(said(&["watch", "run"]).starts_with("run        done; "));
    let events = std::fs::read_to_string(fixture.file("run/events.jsonl")).unwrap();
    let lines: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.last().unwrap()["event"], "run_done");
    let step = lines.iter().rposition(|line| line["event"] == "step").unwrap();
    assert!(lines[step]["peak_memory_bytes"].as_u64() > Some(1 << 20), "{}", lines[step]);

    // Killed after its third step, in the middle of a line.
    let cut: String = events.lines().take(step).flat_map(|line| [line, "\n"]).collect();
    fixture.write("killed/events.jsonl", cut + "{\"event\": \"st");
    let text = said(&["watch", "killed", "--once"]);
    assert!(text.starts_with("run        no process of this machine works there; last heard of "), "{text}");
    assert!(text.contains("train      ━━━━━━━━━━━━━━━━━━────── 3 of 4, "), "{text}");
    assert!(
        text.contains("loss       ") && text.contains(" tokens/s, ") && text.contains("GB at most"),
        "{text}"
    );
    let refused = fixture.run(&["watch", "model", "--once"]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn a_study_is_watched_cell_by_cell() {
    let fixture = Fixture::new();
    fixture.write("grid.toml", format!("{RECIPE}\n[grid]\n\"train.seed\" = [1, 2, 3]\n"));
    let study =
        ["grid.toml", "--device", "cpu", "--out", "study", "--set", "train.steps=2", "--merge", "linear:0.5"];
    fixture.succeeds(&[&study[..], &["--cell", "seed-1"]].concat());
    let said = |arguments: &[&str]| String::from_utf8_lossy(&fixture.succeeds(arguments).stdout).into_owned();
    let text = said(&["watch", "study", "--once"]);
    assert_eq!(text.trim_end(), "study      1 of 3 cells done, 0 running, 2 to come");
    // Somebody begins with the second.
    let folder = std::fs::read_dir(fixture.file("study/cells")).unwrap().next().unwrap().unwrap().path();
    let events = std::fs::read_to_string(folder.join("events.jsonl")).unwrap();
    let begun: String =
        events.lines().take_while(|line| !line.contains("stage_done")).flat_map(|l| [l, "\n"]).collect();
    fixture.write("study/cells/seed-2-01234567/events.jsonl", begun);
    let text = said(&["watch", "study", "--once"]);
    assert!(text.starts_with("study      1 of 3 cells done, 1 running, 1 to come, "), "{text}");
    assert!(text.contains("\nseed-2\n  train      ") && text.contains("\n  loss       "), "{text}");
}
