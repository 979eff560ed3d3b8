//! The models against transformers and PEFT.

mod golden {
    use std::io::Write;
    use std::path::{Path, PathBuf};

    use finetune::device::cpu;
    use finetune::run::proof::selftest::{EXACT, Selftest, golden};

    fn run(folder: &Path) -> Selftest {
        let selftest = golden(folder, &cpu(), EXACT).unwrap();
        let failures: Vec<_> = selftest.failures().collect();
        assert!(failures.is_empty(), "{failures:#?}");
        selftest
    }

    #[test]
    fn golden_models_of_our_own() {
        // Configurations in the old form, shards with an index, micro-batches of unequal label counts.
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models");
        let selftest = run(&folder);
        for trace in ["full", "lora", "rslora", "dora", "dropout", "dora-dropout"] {
            let trace = format!("{trace} losses");
            assert!(selftest.checks.iter().any(|check| check.part == trace), "no case has {trace}");
        }
    }

    #[test]
    fn golden_models_shared() {
        let Some(folder) = std::env::var_os("FINETUNE_GOLDEN") else { return };
        let selftest = run(&PathBuf::from(folder).join("models"));
        let mut cases: Vec<&str> = selftest.checks.iter().map(|check| check.case.as_str()).collect();
        cases.dedup();
        let (n, unsupported) = (cases.len(), selftest.unsupported.join(", "));
        let line =
            format!("golden models: {n} run, {} unsupported ({unsupported})", selftest.unsupported.len());
        // Straight to the stream: the harness keeps what `println!` prints.
        writeln!(std::io::stderr(), "{line}").unwrap();
        for trace in ["logits", "loss", "full losses", "lora losses", "rslora losses", "dora losses"] {
            assert!(selftest.checks.iter().any(|check| check.part == trace), "no case has {trace}");
        }
    }
}
