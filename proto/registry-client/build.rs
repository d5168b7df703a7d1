//! Generates the clients of the registry's services; their messages are those of `proto`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = "causeway/registry/v1/registry.proto";
    println!("cargo:rerun-if-changed=../{file}");
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .extern_path(".causeway.registry.v1", "::proto::wire::registry")
        .compile_fds(protox::compile([file], [".."])?)?;
    Ok(())
}
