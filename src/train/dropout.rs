//! Dropout on the inputs of adapters, drawn so that it depends on nothing but names.
//!
//! Srivastava et al., "Dropout", 2014. Whether an input is dropped is a function of the seed, the
//! step, the projection, the sample and the position: cutting a step otherwise changes nothing.

use burn::tensor::{Tensor, TensorData};
use rand::Rng;
use rayon::prelude::*;

use crate::model::{Decoder, MicroBatch};
use crate::seed::rng;

/// Draws the masks of every adapter for one micro-batch.
pub fn draw(decoder: &mut Decoder, batch: &MicroBatch, share: f64, seed: u64, step: usize) {
    let device = decoder.device.clone();
    let keep = (1.0 / (1.0 - share)) as f32;
    let (b, t) = (batch.samples.len(), batch.width);
    for projection in decoder.projections_mut() {
        let module = projection.module().to_owned();
        let Some(lora) = &mut projection.adapter else { continue };
        let n_in = lora.a.value.dims()[1];
        let mut mask = vec![0.0f32; b * t * n_in];
        mask.par_chunks_mut(t * n_in).zip(&batch.samples).for_each(|(row, sample)| {
            let mut stream = rng(seed, &format!("dropout {module} {step} {sample}"));
            for value in row {
                let drop = f64::from(stream.next_u32()) < share * f64::from(u32::MAX);
                *value = if drop { 0.0 } else { keep };
            }
        });
        lora.mask = Some(Tensor::from_data(TensorData::new(mask, [b, t, n_in]), &device));
    }
}
