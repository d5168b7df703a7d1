//! Generates the registry's services; their messages are those of `proto`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = "causeway/registry/v1/registry.proto";
    println!("cargo:rerun-if-changed=../proto/{file}");
    tonic_prost_build::configure()
        .build_client(false)
        .extern_path(".causeway.registry.v1", "::proto::wire::registry")
        .compile_fds(protox::compile([file], ["../proto"])?)?;
    Ok(())
}
