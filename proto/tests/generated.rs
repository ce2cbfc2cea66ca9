//! Regenerates the checked-in code from the `.proto` files and compares, so that nobody needs `protoc` and nothing goes stale.

use std::error::Error;
use std::fs;
use std::path::Path;

const PROTOS: [&str; 2] = ["groupcachepb.proto", "groupcache_v1.proto"];
const GENERATED: [&str; 2] = ["groupcachepb.rs", "groupcache.v1.rs"];

#[test]
fn the_generated_code_is_what_the_protos_say() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fresh = tempfile::tempdir()?;
    generate(&root.join("protos"), fresh.path())?;

    let update = std::env::var_os("UPDATE_GENERATED").is_some();
    for name in GENERATED {
        let wanted = fs::read_to_string(fresh.path().join(name))?;
        let path = root.join("src/gen").join(name);
        if update {
            fs::write(&path, &wanted)?;
        }
        let found = fs::read_to_string(&path)?;
        assert!(found == wanted, "{name} is out of date: UPDATE_GENERATED=1 cargo test -p groupcache-proto");
    }
    Ok(())
}

fn generate(protos: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let descriptors = protox::compile(PROTOS, [protos])?;
    tonic_prost_build::configure()
        .bytes(".groupcachepb")
        .bytes(".groupcache.v1")
        .build_transport(false)
        .out_dir(out)
        .compile_fds(descriptors)?;
    Ok(())
}
