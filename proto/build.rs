//! Compiles the wire (`causeway/**/*.proto`) into plain messages. Services are generated where they are served.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "causeway/relay/v1/relay.proto",
        "causeway/registry/v1/registry.proto",
        "causeway/disclosures/v1/disclosures.proto",
    ];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    prost_build::Config::new().bytes(["."]).compile_fds(protox::compile(files, ["."])?)?;
    Ok(())
}
