//! Rows of embedding and head that are learned while all else of the two is frozen: what an adapter is to linear maps.

use burn::tensor::{DType, Device, IndexingUpdateOp, Int, Tensor, TensorData};

use super::{DecoderShape, Matrix, Param};
use crate::device::is_cpu;

/// What is added to the rows of some tokens. A head that is the embedding shares it.
#[derive(Debug, Clone)]
pub struct Rows {
    ids: Vec<u32>,
    /// `[n, m]`, in f32.
    embedding: Param,
    /// The same of a head of its own.
    head: Option<Param>,
}

/// Under which name what is learned of a table's rows is kept.
pub fn name_of(weight: &str) -> String {
    format!("{}.rows", weight.trim_end_matches(".weight"))
}

impl Rows {
    /// Nothing is added yet to the rows of the tokens `ids`.
    pub(super) fn zeros(shape: &DecoderShape, ids: &[u32], device: &Device) -> Self {
        let dims = [ids.len(), shape.hidden_size];
        let param = |weight: &str| Param {
            name: name_of(weight),
            shape: dims.to_vec(),
            value: Tensor::zeros(dims, (device, DType::F32)),
        };
        let head = (!shape.tied).then(|| param("lm_head.weight"));
        Self { ids: ids.to_vec(), embedding: param("model.embed_tokens.weight"), head }
    }

    pub(super) fn params_mut(&mut self) -> impl Iterator<Item = &mut Param> {
        std::iter::once(&mut self.embedding).chain(&mut self.head)
    }

    /// What the embedding of `ids` has more.
    ///
    /// # Shapes
    ///
    /// - `ids`: `[b, t]`
    /// - result: `[b, t, m]`
    pub(super) fn added(&self, ids: &Tensor<2, Int>, dtype: DType) -> Tensor<3> {
        let [b, t] = ids.dims();
        let of = |id: &u32| ids.clone().equal_elem(id.cast_signed()).float().reshape([b * t, 1]);
        let is_one = Tensor::cat(self.ids.iter().map(of).collect(), 1).cast(dtype); // [b*t, n]
        let added = is_one.matmul(self.embedding.value.clone().cast(dtype)); // [b*t, m]
        let m = added.dims()[1];
        added.reshape([b, t, m])
    }

    /// A head's matrix with its rows moved, outside any gradient.
    pub(super) fn on_head(&self, head: &Matrix) -> Matrix {
        let param = self.head.as_ref().unwrap_or(&self.embedding);
        let more = param.frozen();
        head.with_rows(self.indices(&more.device()), more)
    }

    /// The gradient of what is learned of the head, under its name, from that of the head's matrix.
    ///
    /// # Shapes
    ///
    /// - `head`: `[v, m]`
    /// - result: `[n, m]`
    pub fn gradient(&self, head: Tensor<2>) -> (&str, Tensor<2>) {
        let param = self.head.as_ref().unwrap_or(&self.embedding);
        let indices = self.indices(&head.device());
        (&param.name, head.select(0, indices))
    }

    fn indices(&self, device: &Device) -> Tensor<1, Int> {
        let ids: Vec<i32> = self.ids.iter().map(|id| id.cast_signed()).collect();
        Tensor::from_data(TensorData::new(ids, [self.ids.len()]), device)
    }
}

impl Matrix {
    /// The same with `more` added to some rows, outside any gradient.
    fn with_rows(&self, rows: Tensor<1, Int>, more: Tensor<2>) -> Self {
        let mut moved = self.frozen();
        let param = moved.param_mut().expect("embeddings and heads are kept whole");
        if is_cpu(&more.device()) {
            param.value = param.value.clone().cast(DType::F32);
        }
        let more = more.cast(param.value.dtype());
        param.value = param.value.clone().select_assign(0, rows, more, IndexingUpdateOp::Add);
        moved
    }
}
