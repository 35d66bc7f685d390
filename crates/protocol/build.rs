//! Compiles `proto/` without a `protoc` binary.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const ROOT: &str = "../../proto";
    const FILES: [&str; 3] = [
        "automator67/agent/v1/types.proto",
        "automator67/agent/v1/enrolment.proto",
        "automator67/agent/v1/session.proto",
    ];
    println!("cargo:rerun-if-changed={ROOT}");
    let descriptors = protox::compile(FILES, [ROOT])?;
    tonic_prost_build::configure().bytes(".automator67.agent.v1.LogLine.text").compile_fds(descriptors)?;
    Ok(())
}
