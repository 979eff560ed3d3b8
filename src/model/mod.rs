//! The language model: one decoder whose families differ in values.
//!
//! [`DecoderShape`] says what is computed, [`Decoder::load`] puts any [`Weights`] on a device,
//! every weight used exactly once. Modules and fields carry the names of the weights on disk.
//!
//! [`Weights`]: crate::snapshot::Weights

mod attention;
mod batch;
mod block;
mod blocks;
mod cache;
mod check;
mod course;
mod decoder;
mod dropout;
pub mod encoder;
pub mod families;
mod head;
mod kept;
pub mod loss;
mod matrix;
mod mlp;
mod norm;
mod param;
mod positions;
mod projection;
mod rope;
pub mod rows;
mod shape;
mod steering;
mod walk;
mod wanted;

pub use batch::{Cut, MicroBatch, micro_batches};
pub use cache::Cache;
pub use course::Course;
pub use decoder::Decoder;
pub use dropout::Dropout;
pub use head::Head;
pub use matrix::Matrix;
pub use norm::NormScale;
pub use param::Param;
pub use positions::{Branched, Positions};
pub use projection::{Lora, Projection};
pub use rope::{RopeScaling, RopeShape};
pub use shape::{DecoderShape, Sizes};
pub use steering::{Directions, Push, Steering};
pub use walk::{Walk, Watch};
