//! Compiles the tests' own service, and keeps its description for reflection.

use protox::prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=protos/echo/v1/echo.proto");
    let files = protox::compile(["echo/v1/echo.proto"], ["protos"])?;
    let description = std::path::Path::new(&std::env::var("OUT_DIR")?).join("echo.descriptors");
    std::fs::write(description, files.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
