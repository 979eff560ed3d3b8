//! `fetch` and hub ids in recipes, against a hub on loopback that can misbehave.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use crate::errors::check_output;
use crate::fixture::{Fixture, RECIPE};
use crate::hub_server::{Fault, Server, TOKEN, UNLISTED, digest, git_blob};

/// The shipped tiny model as a repository, with files that nobody needs.
fn push_model(server: &Server, generation: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/tiny/model");
    let names = [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "model.safetensors",
    ];
    let files = names.map(|name| (name, std::fs::read(folder.join(name)).unwrap()));
    let mut files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    files.push(("generation_config.json", generation.as_bytes()));
    files.push(("pytorch_model.bin", b"pickled"));
    files.push(("onnx/model.onnx", b"a graph"));
    server.push("tiny/aligned", "main", &files)
}

/// The fixture with a hub that has `tiny/aligned` and `datasets/tiny/sums`; the model's commit.
fn start() -> (Fixture, Server, String) {
    let (mut fixture, server) = (Fixture::new(), Server::start());
    let commit = push_model(&server, "{}");
    let train = std::fs::read(fixture.file("train.jsonl")).unwrap();
    server.push("datasets/tiny/sums", "main", &[("data/train.jsonl", &train), ("README.md", b"sums")]);
    fixture.hub = Some(server.endpoint.clone());
    (fixture, server, commit)
}

fn weights() -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("data/tiny/model/model.safetensors")).unwrap()
}

fn well(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

const FETCH: &[&str] = &["fetch", "tiny/aligned"];
const REPOSITORY: &str = "hf/hub/models--tiny--aligned";

fn blob(fixture: &Fixture) -> PathBuf {
    fixture.file(REPOSITORY).join("blobs").join(digest(&weights()))
}

fn incomplete(fixture: &Fixture) -> PathBuf {
    blob(fixture).with_extension("incomplete")
}

#[test]
fn a_model_is_fetched_into_the_layout_of_python() {
    let (fixture, server, commit) = start();
    let printed = well(&fixture.command(FETCH).env("HF_TOKEN", TOKEN).output().unwrap());
    assert_eq!(printed, format!("{REPOSITORY}/snapshots/{commit}"));
    let folder = fixture.file(&printed);
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let wanted = [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(names, wanted);
    let link = std::fs::read_link(folder.join("model.safetensors")).unwrap();
    assert_eq!(link, Path::new("../../blobs").join(digest(&weights())));
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), weights());
    let noted = std::fs::read_to_string(fixture.file(REPOSITORY).join("refs/main")).unwrap();
    assert_eq!(noted, commit);
    let log = server.log();
    let of_store = |line: &String| line.split(' ').nth(1).is_some_and(|path| path.len() == 65);
    let stored: Vec<_> = log.iter().filter(|line| of_store(line)).collect();
    assert_eq!(stored.len(), 1);
    assert!(!stored[0].ends_with("+token"), "the store of large files is another site");
    assert!(log.iter().filter(|line| line.contains("/api/models/")).all(|line| line.ends_with("+token")));
    well(&fixture.run(FETCH));
    assert_eq!(server.log(), ["GET /api/models/tiny/aligned/revision/main"]);
    well(&fixture.run(&["fetch", "tiny/aligned", "--revision", &commit]));
    assert_eq!(server.log(), [format!("GET /api/models/tiny/aligned/revision/{commit}")]);
    let data = PathBuf::from(well(&fixture.run(&["fetch", "datasets/tiny/sums"])));
    assert!(data.starts_with("hf/hub/datasets--tiny--sums/snapshots"));
    let data = fixture.file(data.to_str().unwrap());
    assert!(data.join("data/train.jsonl").is_file() && !data.join("README.md").exists());
}

#[test]
fn of_two_saves_in_one_repository_the_single_file_is_fetched_or_else_the_shards() {
    let (fixture, server, _) = start();
    let (config, weights) = (b"{}".as_slice(), weights());
    let index = br#"{"weight_map": {"w": "model-00001-of-00001.safetensors"}}"#.as_slice();
    let shards = [
        ("config.json", config),
        ("model.safetensors.index.json", index),
        ("model-00001-of-00001.safetensors", weights.as_slice()),
        ("consolidated.safetensors", b"the same again".as_slice()),
    ];
    let both = [&shards[..], &[("model.safetensors", weights.as_slice())]].concat();
    server.push("tiny/shards", "main", &shards);
    server.push("tiny/both", "main", &both);
    let names = |name: &str| -> Vec<String> {
        let folder = fixture.file(&well(&fixture.run(&["fetch", name])));
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names("tiny/both"), ["config.json", "model.safetensors"]);
    let expected = ["config.json", "model-00001-of-00001.safetensors", "model.safetensors.index.json"];
    assert_eq!(names("tiny/shards"), expected);
}

#[test]
fn an_interrupted_download_goes_on_where_it_broke_off() {
    let (fixture, server, _) = start();
    let store = format!("/{}", digest(&weights()));
    server.fault(&store, Fault::Cut(300_000), 1);
    server.fault("/api/resolve-cache/tiny/aligned/resolve", Fault::Cut(10), 1);
    server.fault("/revision/main", Fault::Status(503), 1);
    well(&fixture.run(FETCH));
    assert_eq!(std::fs::read(blob(&fixture)).unwrap(), weights());
    let log: Vec<String> = server.log().into_iter().filter(|line| line.contains(&store)).collect();
    assert_eq!(log, [format!("GET {store}"), format!("GET {store} from 300000")]);
}

#[test]
fn a_killed_download_leaves_what_the_next_goes_on_with() {
    let (fixture, server, commit) = start();
    let store = format!("/{}", digest(&weights()));
    server.fault(&store, Fault::Stall(500_000), 1);
    let mut child = fixture.command(FETCH).spawn().unwrap();
    let (started, part) = (Instant::now(), incomplete(&fixture));
    while std::fs::metadata(&part).map_or(0, |meta| meta.len()) < 500_000 {
        assert!(started.elapsed() < Duration::from_mins(1), "the download does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!blob(&fixture).exists());
    assert!(!fixture.file(&format!("{REPOSITORY}/snapshots/{commit}/model.safetensors")).exists());
    assert!(!fixture.file(REPOSITORY).join("refs/main").exists());
    server.log();
    well(&fixture.run(FETCH));
    assert!(server.log().contains(&format!("GET {store} from 500000")));
    assert_eq!(std::fs::read(blob(&fixture)).unwrap(), weights());
    assert!(!part.exists());
}

#[test]
fn a_wrong_digest_is_fetched_once_more_and_then_refused() {
    let (fixture, server, _) = start();
    let store = format!("/{}", digest(&weights()));
    server.fault(&store, Fault::Corrupt, 3);
    let output = fixture.run(FETCH);
    let found = {
        let mut weights = weights();
        weights[0] ^= 1;
        digest(&weights)
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    for text in ["hub::wrong_digest", &found, &digest(&weights())] {
        assert!(said.contains(text), "{said}");
    }
    assert!(!blob(&fixture).exists() && !incomplete(&fixture).exists());
    well(&fixture.run(FETCH));
    let n = server.log().iter().filter(|line| line.contains(&store)).count();
    assert_eq!(n, 4, "two refused, a third refused, a fourth taken");
    // What another program left behind is no harm either.
    std::fs::remove_file(blob(&fixture)).unwrap();
    std::fs::write(incomplete(&fixture), vec![7; 1000]).unwrap();
    well(&fixture.run(FETCH));
    assert_eq!(std::fs::read(blob(&fixture)).unwrap(), weights());
}

#[test]
fn a_small_file_is_held_against_the_digest_of_git() {
    let (fixture, server, _) = start();
    let config =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("data/tiny/model/config.json")).unwrap();
    let blob = fixture.file(REPOSITORY).join("blobs").join(git_blob(&config));
    // What another program left of another file, as long as this one or shorter.
    for stale in [vec![b'x'; config.len()], vec![b'x'; 9]] {
        std::fs::create_dir_all(blob.parent().unwrap()).unwrap();
        std::fs::write(blob.with_extension("incomplete"), stale).unwrap();
        well(&fixture.run(FETCH));
        assert_eq!(std::fs::read(&blob).unwrap(), config);
        std::fs::remove_dir_all(fixture.file(REPOSITORY)).unwrap();
    }
    let place = "/api/resolve-cache/tiny/aligned/resolve";
    server.fault(place, Fault::Corrupt, 100);
    let output = fixture.run(FETCH);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(3) && said.contains("hub::wrong_digest"), "{said}");
}

#[test]
fn a_disk_without_room_is_found_before_the_download() {
    let (fixture, server, _) = start();
    server.fault("model.safetensors", Fault::Size(1 << 60), 1);
    let output = fixture.run(FETCH);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(3) && said.contains("hub::no_space"), "{said}");
    assert!(!server.log().iter().any(|line| line.contains(&digest(&weights()))));
}

/// A server that is no hub, and does with every request what `answer` does.
fn other_server(answer: fn(&mut TcpStream) -> std::io::Result<()>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Read first: who is answered unasked may be told so by a reset connection.
            let _ = stream.read(&mut [0; 4096]);
            let _ = answer(&mut stream);
        }
    });
    endpoint
}

#[test]
fn every_refusal_says_what_to_do() {
    let (fixture, server, _) = start();
    let check = |name: &str, arguments: &[&str], token: Option<&str>| {
        let mut command = fixture.command(arguments);
        token.map(|token| command.env("HF_TOKEN", token));
        check_output(&fixture, name, arguments, &command.output().unwrap());
    };
    check("hub_bad_name", &["fetch", "aligned"], None);
    check("hub_no_repository", &["fetch", "tiny/alinged"], None);
    check("hub_no_repository_for_token", &["fetch", "tiny/alinged"], Some(TOKEN));
    check("hub_bad_token", FETCH, Some("hf_expired"));
    check("hub_broken_token", FETCH, Some("hf_read er"));
    check("hub_no_revision", &["fetch", "tiny/aligned@mian"], None);
    check("hub_no_file", &["fetch", "datasets/tiny/sums/data/trian.jsonl"], None);
    server.push("tiny/pickled", "main", &[("config.json", b"{}"), ("pytorch_model.bin", b"pickled")]);
    check("hub_no_weights", &["fetch", "tiny/pickled"], None);
    server.fault("/revision/", Fault::Status(503), 6);
    check("hub_busy", FETCH, None);
    server.fault(&digest(&weights()), Fault::Cut(300_000), 1);
    server.fault(&digest(&weights()), Fault::Cut(0), 6);
    let mut output = fixture.run(FETCH);
    let said = String::from_utf8_lossy(&output.stderr);
    let error: Vec<&str> = said.lines().skip_while(|line| !line.starts_with("hub::")).collect();
    output.stderr = format!("{}\n", error.join("\n")).into_bytes();
    check_output(&fixture, "hub_interrupted", FETCH, &output);
    server.gate("tiny/aligned");
    check("hub_gated", FETCH, None);
    check("hub_gated_for_token", FETCH, Some(UNLISTED));
    let run = ["--recipe", "r.toml", "--device", "cpu", "--out", "run"];
    check("hub_whole_data_set", &[&run[..], &["--set", "data.source=datasets/tiny/sums"]].concat(), None);
    let mut alone = Fixture::new();
    // Nobody listens at port 1.
    alone.hub = Some("http://127.0.0.1:1".to_owned());
    check_output(&alone, "hub_unreachable", FETCH, &alone.run(FETCH));
    let output = alone.command(FETCH).env("HF_ENDPOINT", "localhost:8080").output().unwrap();
    check_output(&alone, "hub_bad_endpoint", FETCH, &output);
    let page = |stream: &mut TcpStream| {
        let text = "<html>Please log in.</html>";
        let length = text.len();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\n\r\n{text}")
    };
    alone.hub = Some(other_server(page));
    check_output(&alone, "hub_page", FETCH, &alone.run(FETCH));
    let endless = |stream: &mut TcpStream| {
        write!(stream, "HTTP/1.1 200 OK\r\n\r\n")?;
        loop {
            stream.write_all(&[b' '; 1 << 13])?;
        }
    };
    alone.hub = Some(other_server(endless));
    check_output(&alone, "hub_endless", FETCH, &alone.run(FETCH));
}

/// Model and data from the hub, through the whole pipeline.
fn recipe(fixture: &Fixture) {
    let text = RECIPE
        .replace("source = \"model\"", "source = \"tiny/aligned\"")
        .replace(
            "source = \"train.jsonl\"\nfields",
            "source = \"datasets/tiny/sums/data/train.jsonl\"\nfields",
        )
        .replace("steps = 20", "steps = 2");
    fixture.write("hub.toml", text);
}

const RUN: &[&str] = &["--recipe", "hub.toml", "--device", "cpu", "--out", "run"];

#[test]
fn a_run_on_hub_ids_keeps_its_commit_when_the_branch_moves() {
    let (fixture, server, commit) = start();
    recipe(&fixture);
    let slip = fixture.run(&[RUN, &["--set", "data.max_tokens=12"]].concat());
    assert_eq!(slip.status.code(), Some(3));
    let large = format!("/{}", digest(&weights()));
    assert!(!server.log().iter().any(|line| line.contains(&large)), "weights come after all checks");
    well(&fixture.run(RUN));
    let lock = std::fs::read_to_string(fixture.file("run/recipe.lock")).unwrap();
    assert!(lock.contains(&format!("{commit}  hf://tiny/aligned@main\n")), "{lock}");
    assert!(lock.contains("  hf://datasets/tiny/sums@main\n"), "{lock}");
    let adapter = std::fs::read_to_string(fixture.file("run/train/adapter/adapter_config.json")).unwrap();
    assert!(adapter.contains("\"base_model_name_or_path\": \"tiny/aligned\""), "{adapter}");

    let moved = push_model(&server, "{\"do_sample\": false}");
    assert!(well(&fixture.run(FETCH)).ends_with(&moved));
    server.log();
    let again = fixture.run(RUN);
    well(&again);
    assert!(String::from_utf8_lossy(&again.stderr).contains("train: done before"));
    assert_eq!(server.log(), [""; 0], "all of it is in the cache");
    let kept = std::fs::read_to_string(fixture.file("run/recipe.lock")).unwrap();
    assert_eq!(kept, lock);
    // On a machine that has nothing, the lock beside the recipe asks for the same commit.
    let mut elsewhere = fixture.command(&["--recipe", "run/recipe.toml", "--device", "cpu", "--out", "twin"]);
    well(&elsewhere.env("HF_HOME", "empty").output().unwrap());
    let twin = std::fs::read_to_string(fixture.file("twin/recipe.lock")).unwrap();
    assert_eq!(twin, lock);
    assert!(server.log().contains(&format!("GET /api/models/tiny/aligned/revision/{commit}")));
}

#[test]
fn a_run_needs_no_network_once_all_is_in_the_cache() {
    let (mut fixture, server, _) = start();
    recipe(&fixture);
    fixture.hub = None;
    let output = fixture.run(RUN);
    check_output(&fixture, "hub_offline", RUN, &output);
    fixture.hub = Some(server.endpoint.clone());
    well(&fixture.run(&["fetch", "tiny/aligned", "datasets/tiny/sums/data/*.jsonl"]));
    fixture.hub = None;
    server.log();
    let table = well(&fixture.run(RUN));
    assert!(table.contains("slerp:0.5"), "{table}");
    assert_eq!(server.log(), [""; 0]);
}

#[test]
fn merges_take_ids_of_a_hub_as_recipes_do() {
    let (mut fixture, server, commit) = start();
    let other = format!("{}/data/tiny/model", env!("CARGO_MANIFEST_DIR"));
    fixture.write(
        "merge.yml",
        format!("merge_method: linear\nmodels:\n  - {{model: tiny/aligned, parameters: {{weight: 0.5}}}}\n  - {{model: {other}, parameters: {{weight: 0.5}}}}\n"),
    );
    let bytes = |out: &str| std::fs::read(fixture.file(out).join("model.safetensors")).unwrap();
    let output = fixture.run(&["merge", "--config", "merge.yml", "--out", "yaml"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && said.contains(&format!("tiny/aligned is at commit {commit}")),
        "{said}"
    );
    let output = fixture.run(&[
        "merge",
        "--pre",
        "tiny/aligned",
        "--post",
        &other,
        "--merge",
        "linear:0.5",
        "--out",
        "pair",
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(bytes("yaml"), bytes("pair"));
    // All is in the cache: no network is needed, and what is in none is refused with the command that brings it.
    drop(server);
    fixture.hub = None;
    let output = fixture.run(&["merge", "--config", "merge.yml", "--out", "again"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = fixture.run(&[
        "merge",
        "--pre",
        "nobody/nothing",
        "--post",
        &other,
        "--merge",
        "linear:0.5",
        "--out",
        "no",
    ]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(3)
            && said
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .contains("finetune fetch nobody/nothing"),
        "{said}"
    );
}

#[test]
fn given_weights_and_models_of_ones_own_may_be_a_hubs() {
    let (fixture, _server, _) = start();
    let own = format!("{}/data/tiny/model", env!("CARGO_MANIFEST_DIR"));
    let recipe = |tuned: &str, more: &str| {
        format!(
            "name = \"given\"\n[model]\nsource = \"{own}\"\n{tuned}[data]\nsource = \"train.jsonl\"\n\
             fields = {{ prompt = \"question\", completion = \"answer\" }}\n[train]\nsteps = 1\n\
             [[eval.suites]]\ntask = \"harmful\"\nsource = \"harmful.csv\"\nfield = \"goal\"\nmax_new_tokens = 2\n{more}"
        )
    };
    // The cache is empty: settings come first, and the weights with them.
    fixture.write(
        "named.toml",
        recipe("", "[[eval.candidates]]\nname = \"theirs\"\nsource = \"tiny/aligned\"\n"),
    );
    well(&fixture.run(&["named.toml", "--device", "cpu", "--out", "named"]));
    std::fs::remove_dir_all(fixture.file("hf")).unwrap();
    fixture.write("tuned.toml", recipe("tuned = \"tiny/aligned\"\n", ""));
    well(&fixture.run(&["tuned.toml", "--device", "cpu", "--out", "tuned"]));
    for (out, name) in [("named", "theirs"), ("tuned", "tuned")] {
        let report = std::fs::read_to_string(fixture.file(out).join("report.json")).unwrap();
        assert!(report.contains(&format!("\"name\": \"{name}\"")), "{report}");
    }
}
