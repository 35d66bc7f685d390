//! Measuring what the containers use.
//!
//! The figures come from files of the kernel, because the engine's own are slow:
//! an engine of version 20.10 takes a second for each container after the first.
//! Where those files cannot be seen (an agent in a container without the host's
//! process and cgroup trees) the engine is asked after all.
//!
//! Readings go into a [`SampleBuffer`], from where [`crate::link`] sends them. A
//! value that could not be read is `None`, never 0.

mod buffer;
mod cgroup;
mod net;
mod reader;
mod sampler;

pub use buffer::SampleBuffer;
pub use sampler::{Running, start};
