//! The model goldens on a GPU through wgpu; a software driver will do.
//!
//! Compiling its kernels takes minutes on a processor, so these cases run only where
//! `FINETUNE_REQUIRE_WGPU` asks for them. Then a machine without any adapter fails.

mod golden {
    use std::io::Write;
    use std::path::Path;

    use finetune::device;
    use finetune::run::proof::selftest::{GPU, golden};

    #[test]
    fn golden_models_on_wgpu() {
        if std::env::var_os("FINETUNE_REQUIRE_WGPU").is_none() {
            return;
        }
        let opened = device::open(&"webgpu".parse().unwrap()).unwrap();
        let shared = std::env::var_os("FINETUNE_GOLDEN").map(|folder| Path::new(&folder).join("models"));
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models");
        let selftest = golden(&shared.unwrap_or(own), &opened.device, GPU).unwrap();
        let failures: Vec<_> = selftest.failures().collect();
        assert!(failures.is_empty(), "{failures:#?}");
        let line = format!("golden models on {}: {} comparisons", opened.name, selftest.checks.len());
        writeln!(std::io::stderr(), "{line}").unwrap();
    }
}
