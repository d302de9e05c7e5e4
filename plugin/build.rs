//! Links the plugin at fixed addresses where it is linked statically: it lives for milliseconds and is
//! started for every pod, and relocating it at every start would cost a tenth of an ADD.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let features = std::env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    if features.split(',').any(|feature| feature == "crt-static") {
        for flag in ["-static", "-no-pie"] {
            println!("cargo::rustc-link-arg-bins={flag}");
        }
    }
}
