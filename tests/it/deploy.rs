//! What `deploy/` tells the program. The rest of it is checked by `scripts/lint-deploy`, with the tools of its readers.

use std::path::Path;
use std::process::Command;

use crate::rig::server;

#[test]
fn p13_the_config_of_the_compose_file_is_right() {
    let home = tempfile::tempdir().unwrap();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (from, to) in [
        ("deploy/compose/afflux.toml", "afflux.toml"),
        ("config/catalog.toml", "catalog.toml"),
        ("config/demo-shop.signing", "demo-shop.signing"),
    ] {
        std::fs::copy(repository.join(from), home.path().join(to)).unwrap();
    }
    // As deploy/compose/secrets.sh makes them.
    let key = "5".repeat(64);
    let secrets = [
        ("click.keys", "AFFLUX__CLICK__KEYS_FILE", format!("1:{key}\nvisitor:{key}\n")),
        ("postgresql.url", "AFFLUX__POSTGRESQL__URL_FILE", "postgresql://afflux:5@postgresql:5432/afflux\n".into()),
    ];
    let mut check = Command::new(server::binary());
    check.args(["check", "--config"]).arg(home.path().join("afflux.toml"));
    check.env("AFFLUX__SPOOL__DIRECTORY", home.path().join("spool"));
    for (name, variable, text) in &secrets {
        std::fs::write(home.path().join(name), text).unwrap();
        check.env(variable, home.path().join(name));
    }
    let checked = check.output().unwrap();
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{said}");
    // It is a container: all of its addresses are meant.
    assert!(said.lines().all(|line| line.contains("0.0.0.0")), "{said}");
}
