//! Compiles the tests' own service.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=protos/echo/v1/echo.proto");
    let files = protox::compile(["echo/v1/echo.proto"], ["protos"])?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
