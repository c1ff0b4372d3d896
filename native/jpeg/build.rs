//! Compiles `src/scans.c` against the headers of the libjpeg-turbo that `turbojpeg-sys` built.

use std::env;

fn main() -> Result<(), env::VarError> {
    println!("cargo::rerun-if-changed=src/scans.c");
    let include = env::var("DEP_TURBOJPEG_INCLUDE")?;
    cc::Build::new()
        .file("src/scans.c")
        .include(include)
        .std("c11")
        .warnings(true)
        .extra_warnings(true)
        .compile("pyserver_scans");
    Ok(())
}
