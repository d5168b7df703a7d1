//! Compiles the agencies' own protos. They are ordinary gRPC services: of ours they have the options that say what a field means,
//! and the portal asks security servers who received what about a person.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "population/v1/population.proto",
        "civil/v1/civil.proto",
        "insurance/v1/insurance.proto",
        "portal/v1/portal.proto",
        "archive/v1/archive.proto",
        "causeway/disclosures/v1/disclosures.proto",
    ];
    println!("cargo:rerun-if-changed=protos");
    tonic_prost_build::configure().compile_fds(protox::compile(files, ["protos", "../proto"])?)?;
    Ok(())
}
