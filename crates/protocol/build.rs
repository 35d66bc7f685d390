//! Compiles `proto/` without a `protoc` binary.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const ROOT: &str = "../../proto";
    const FILES: [&str; 3] = [
        "automator67/agent/v1/types.proto",
        "automator67/agent/v1/enrolment.proto",
        "automator67/agent/v1/session.proto",
    ];
    // Their `Debug` is written by hand in `src/redacted.rs`.
    const SECRET: [&str; 7] = [
        ".automator67.agent.v1.InstanceSpec",
        ".automator67.agent.v1.LogOptions",
        ".automator67.agent.v1.LogLine",
        ".automator67.agent.v1.EnrolRequest",
        ".automator67.agent.v1.Probe.Header",
        ".automator67.agent.v1.SecretValue",
        ".automator67.agent.v1.RegistryLogin",
    ];
    println!("cargo:rerun-if-changed={ROOT}");
    let descriptors = protox::compile(FILES, [ROOT])?;
    tonic_prost_build::configure()
        .bytes(".automator67.agent.v1.LogLine.text")
        .btree_map(".automator67.agent.v1.InstanceSpec.env")
        .btree_map(".automator67.agent.v1.InstanceSpec.labels")
        .btree_map(".automator67.agent.v1.LogOptions.options")
        .skip_debug(SECRET)
        .compile_fds(descriptors)?;
    Ok(())
}
