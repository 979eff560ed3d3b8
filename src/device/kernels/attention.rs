//! Attention over whole sequences as one operation on the processor.
//!
//! Dao et al., "`FlashAttention`", 2022, arXiv 2205.14135, and its second part, 2023, arXiv 2307.08691: a few queries at
//! a time meet the keys that they may see, and backward makes their shares again from the logarithm of each sum, so
//! that memory grows with the number of tokens and not with its square. Rotary embedding happens on the way in, its
//! gradient on the way out. Results do not depend on the number of threads.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::{Flex, FlexTensor};
use rayon::prelude::*;

use super::product::{Part, product_into};
use super::rows::{shares_again, soft_cap_of, softmax_within, turn};
use super::{Angles, is_cpu, numbers, plain, slice, tracked};

/// Queries of one head that meet their keys at once.
const CHUNK: usize = 64;
/// Queries of one task.
const TASK: usize = 4 * CHUNK;

/// Which keys each query sees: those from its first one to that of its own place.
#[derive(Debug, Clone)]
pub struct Spans {
    /// `[b or 1, t]`
    pub first: Arc<Vec<u32>>,
}

/// The heads of an attention.
#[derive(Debug, Clone, Copy)]
pub struct HeadShape {
    /// Of queries.
    pub n_heads: usize,
    /// Of keys and values; each is seen by as many heads of queries.
    pub n_kv_heads: usize,
    pub width: usize,
    /// What queries are multiplied with.
    pub scale: f32,
    /// Scores are kept between plus and minus this.
    pub cap: Option<f32>,
}

/// Whether a model that computes in this format on this device can use [`attend`].
pub fn attends(device: &Device, compute: DType) -> bool {
    is_cpu(device) && compute == DType::F32
}

/// `softmax(s · rot(Q) rot(K)ᵀ) V` of every head, on the processor in f32.
///
/// # Shapes
///
/// - `q`: `[b, t, h·d]`, `k`, `v`: `[b, t, g·d]`
/// - `angles`: of the part of each head that turns, `[b or 1, t, half]`
/// - result: `[b, t, h·d]`
///
/// # Panics
///
/// The tensors lie elsewhere, or are of another format.
pub fn attend([q, k, v]: [Tensor<3>; 3], angles: &Angles, spans: &Spans, shape: HeadShape) -> Tensor<3> {
    let with = |q, k, v| Attention { q, k, v, angles: angles.clone(), spans: spans.clone(), shape };
    if !(q.is_autodiff() || k.is_autodiff() || v.is_autodiff()) {
        let [q, k, v] = [q, k, v].map(|x| numbers(&plain(x)));
        return Tensor::from_primitive::<Flex>(with(q, k, v).forward().0);
    }
    let [q, k, v] = [q, k, v].map(tracked);
    let attention = with(numbers(q.primitive()), numbers(k.primitive()), numbers(v.primitive()));
    let (y, logs) = attention.forward();
    let prepared =
        Attend.prepare::<NoCheckpointing>([q.node(), k.node(), v.node()]).compute_bound().stateful();
    Tensor::from_primitive::<Autodiff<Flex>>(match prepared {
        OpsKind::Tracked(prepared) => prepared.finish((attention, logs), y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    })
}

#[derive(Debug)]
struct Attend;

impl Backward<Flex, 3> for Attend {
    type State = (Attention, Logs);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (attention, logs) = ops.state;
        let g = numbers(&gradients.consume::<Flex>(&ops.node));
        for (node, gradient) in ops.parents.into_iter().zip(attention.backward(slice(&g), &logs)) {
            if let Some(node) = node {
                gradients.register::<Flex>(node.id, gradient);
            }
        }
    }
}

/// The logarithm of each query's sum of exponentials, task after task.
type Logs = Arc<Vec<Vec<f32>>>;

#[derive(Debug, Clone)]
struct Attention {
    q: FlexTensor,
    k: FlexTensor,
    v: FlexTensor,
    angles: Angles,
    spans: Spans,
    shape: HeadShape,
}

/// Some queries of a row, of all heads that see one head of keys.
struct Task {
    row: usize,
    head: usize,
    queries: Range<usize>,
}

/// What a task finds of the gradients.
struct Found {
    /// `[queries, n · d]`
    queries: Vec<f32>,
    /// The first key that the task sees.
    first: usize,
    /// `[keys, d]`, of turned keys.
    keys: Vec<f32>,
    /// `[keys, d]`
    values: Vec<f32>,
}

impl Attention {
    /// `b`, `t`, and how many heads of queries share one of keys.
    fn sizes(&self) -> [usize; 3] {
        let [b, t, _] = self.q.layout().shape().dims();
        [b, t, self.shape.n_heads / self.shape.n_kv_heads]
    }

    fn tasks(&self) -> Vec<Task> {
        let [b, t, _] = self.sizes();
        let of = |row, head| {
            let starts = (0..t).step_by(TASK);
            starts.map(move |start| Task { row, head, queries: start..(start + TASK).min(t) })
        };
        let heads = (0..b).flat_map(|row| (0..self.shape.n_kv_heads).map(move |head| (row, head)));
        heads.flat_map(|(row, head)| of(row, head)).collect()
    }

    /// The first key that a query sees.
    fn first(&self, row: usize, query: usize) -> usize {
        let [_, t, _] = self.sizes();
        let n_lists = self.spans.first.len() / t;
        self.spans.first[row % n_lists * t + query] as usize
    }

    /// The keys that some queries see between them.
    fn keys(&self, row: usize, queries: Range<usize>) -> Range<usize> {
        queries.clone().map(|query| self.first(row, query)).min().unwrap_or(0)..queries.end
    }

    /// Turns a head at a place, back for a direction of −1.
    fn turn(&self, x: &mut [f32], row: usize, place: usize, direction: f32) {
        let [_, t, _] = self.sizes();
        let half = self.angles.half;
        let n_lists = self.angles.cos.len() / (t * half);
        let at = (row % n_lists * t + place) * half;
        turn(x, &self.angles.cos[at..at + half], &self.angles.sin[at..at + half], direction);
    }

    /// Every head of keys, turned: `[b, g, t, d]`.
    fn turned_keys(&self) -> Vec<f32> {
        let ([b, t, _], HeadShape { n_kv_heads: g, width: d, .. }) = (self.sizes(), self.shape);
        let (keys, mut turned) = (slice(&self.k), vec![0.0; b * g * t * d]);
        turned.par_chunks_mut(t * d).enumerate().for_each(|(i, turned)| {
            for (place, turned) in turned.chunks_mut(d).enumerate() {
                turned.copy_from_slice(&keys[((i / g * t + place) * g + i % g) * d..][..d]);
                self.turn(turned, i / g, place, 1.0);
            }
        });
        turned
    }

    /// The same queries of all heads that share keys, turned and multiplied: `[n · queries, d]`, head after head.
    fn turned_queries(&self, task: &Task, queries: Range<usize>, turned: &mut Vec<f32>) {
        self.gather(slice(&self.q), task, queries.clone(), turned);
        for (i, turned) in turned.chunks_mut(self.shape.width).enumerate() {
            self.turn(turned, task.row, queries.start + i % queries.len(), 1.0);
            for x in turned {
                *x *= self.shape.scale;
            }
        }
    }

    /// Of `[b, t, h·d]` these queries of a task's heads, `[n · queries, d]`, head after head.
    fn gather(&self, from: &[f32], task: &Task, queries: Range<usize>, into: &mut Vec<f32>) {
        let ([_, t, n], HeadShape { n_heads: h, width: d, .. }) = (self.sizes(), self.shape);
        into.clear();
        for head in task.head * n..(task.head + 1) * n {
            for place in queries.clone() {
                into.extend_from_slice(&from[((task.row * t + place) * h + head) * d..][..d]);
            }
        }
    }

    /// Scores of a chunk's queries with the keys that they see between them.
    fn scores(&self, queries: &[f32], keys: &[f32], scores: &mut Vec<f32>) {
        let d = self.shape.width;
        let (rows, n_keys) = (queries.len() / d, keys.len() / d);
        scores.resize(rows * n_keys, 0.0);
        let keys = Part::of(keys, [n_keys, d]).turned();
        product_into(scores, n_keys, Part::of(queries, [rows, d]), keys, false, false);
        if let Some(cap) = self.shape.cap {
            soft_cap_of(scores, cap);
        }
    }

    /// What a query of a chunk sees of the chunk's keys.
    fn seen(&self, row: usize, query: usize, keys: &Range<usize>) -> Range<usize> {
        self.first(row, query) - keys.start..query + 1 - keys.start
    }

    /// A row's values of one head, from a key on.
    fn values(&self, task: &Task, keys: &Range<usize>) -> Part<'_> {
        let ([_, t, _], HeadShape { n_kv_heads: g, width: d, .. }) = (self.sizes(), self.shape);
        let from = ((task.row * t + keys.start) * g + task.head) * d;
        Part { numbers: &slice(&self.v)[from..], size: [keys.len(), d], steps: [g * d, 1] }
    }

    fn forward(&self) -> (FlexTensor, Logs) {
        let ([b, t, n], HeadShape { n_heads: h, n_kv_heads: g, width: d, .. }) = (self.sizes(), self.shape);
        let (all_keys, tasks) = (self.turned_keys(), self.tasks());
        let of_task = |task: &Task| {
            let width = n * d;
            let mut mixed = vec![0.0; task.queries.len() * width];
            let mut logs = Vec::with_capacity(task.queries.len() * n);
            let (mut queries, mut scores) = (Vec::new(), Vec::new());
            for start in task.queries.clone().step_by(CHUNK) {
                let chunk = start..(start + CHUNK).min(task.queries.end);
                let keys = self.keys(task.row, chunk.clone());
                self.turned_queries(task, chunk.clone(), &mut queries);
                let near = &all_keys[((task.row * g + task.head) * t + keys.start) * d..][..keys.len() * d];
                self.scores(&queries, near, &mut scores);
                for (i, scores) in scores.chunks_mut(keys.len()).enumerate() {
                    let seen = self.seen(task.row, start + i % chunk.len(), &keys);
                    logs.push(softmax_within(scores, seen));
                }
                for (head, shares) in scores.chunks(chunk.len() * keys.len()).enumerate() {
                    let into = &mut mixed[(start - task.queries.start) * width + head * d..];
                    let shares = Part::of(shares, [chunk.len(), keys.len()]);
                    product_into(into, width, shares, self.values(task, &keys), false, false);
                }
            }
            (mixed, logs)
        };
        let (mixed, logs): (Vec<_>, Vec<_>) = tasks.par_iter().map(of_task).unzip();
        let y = self.spread(&tasks, &mixed, n * d);
        (FlexTensor::from_data(TensorData::new(y, [b, t, h * d])), Arc::new(logs))
    }

    /// What each task has for its queries, `width` numbers each, put where they belong: `[b, t, g · width]`.
    fn spread(&self, tasks: &[Task], parts: &[Vec<f32>], width: usize) -> Vec<f32> {
        let ([b, t, _], g) = (self.sizes(), self.shape.n_kv_heads);
        let mut all = vec![0.0; b * t * g * width];
        let n_parts = tasks.len() / (b * g);
        all.par_chunks_mut(g * width).with_min_len(CHUNK).enumerate().for_each(|(i, all)| {
            let (row, place) = (i / t, i % t);
            for (head, all) in all.chunks_mut(width).enumerate() {
                let part = &parts[(row * g + head) * n_parts + place / TASK];
                all.copy_from_slice(&part[place % TASK * width..][..width]);
            }
        });
        all
    }

    /// The gradients of queries, keys and values.
    fn backward(&self, g: &[f32], logs: &Logs) -> [FlexTensor; 3] {
        let ([b, t, n], HeadShape { n_kv_heads, width: d, .. }) = (self.sizes(), self.shape);
        let (all_keys, tasks) = (self.turned_keys(), self.tasks());
        let found = tasks.par_iter().zip(logs.par_iter());
        let mut found: Vec<Found> =
            found.map(|(task, logs)| self.of_task(task, &all_keys, g, logs)).collect();
        let queries: Vec<Vec<f32>> =
            found.iter_mut().map(|found| std::mem::take(&mut found.queries)).collect();
        let queries = self.spread(&tasks, &queries, n * d);
        // Sums over the tasks of a head, in their order.
        let n_parts = tasks.len() / (b * n_kv_heads);
        let summed = found.par_chunks(n_parts).enumerate().map(|(i, found)| {
            let (mut keys, mut values) = (vec![0.0; t * d], vec![0.0; t * d]);
            for Found { first, keys: more_keys, values: more_values, .. } in found {
                for (sum, more) in [(&mut keys, more_keys), (&mut values, more_values)] {
                    sum[first * d..].iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
                }
            }
            for (place, key) in keys.chunks_mut(d).enumerate() {
                self.turn(key, i / n_kv_heads, place, -1.0);
            }
            (keys, values)
        });
        let (keys, values): (Vec<_>, Vec<_>) = summed.unzip();
        let by_place = |heads: &[Vec<f32>]| {
            let mut all = vec![0.0; b * t * n_kv_heads * d];
            all.par_chunks_mut(n_kv_heads * d).with_min_len(CHUNK).enumerate().for_each(|(i, all)| {
                for (head, all) in all.chunks_mut(d).enumerate() {
                    all.copy_from_slice(&heads[i / t * n_kv_heads + head][i % t * d..][..d]);
                }
            });
            all
        };
        let tensor = |values, like: &FlexTensor| super::tensor(values, like);
        [tensor(queries, &self.q), tensor(by_place(&keys), &self.k), tensor(by_place(&values), &self.v)]
    }

    /// A task's part of the gradients, from that of its result.
    fn of_task(&self, task: &Task, all_keys: &[f32], g: &[f32], logs: &[f32]) -> Found {
        let ([_, t, n], HeadShape { n_kv_heads, width: d, scale, cap, .. }) = (self.sizes(), self.shape);
        let all = self.keys(task.row, task.queries.clone());
        let mut found = Found {
            queries: vec![0.0; task.queries.len() * n * d],
            first: all.start,
            keys: vec![0.0; all.len() * d],
            values: vec![0.0; all.len() * d],
        };
        let (mut queries, mut out, mut shares) = (Vec::new(), Vec::new(), Vec::new());
        let (mut d_shares, mut d_queries) = (Vec::new(), Vec::new());
        for start in task.queries.clone().step_by(CHUNK) {
            let chunk = start..(start + CHUNK).min(task.queries.end);
            let keys = self.keys(task.row, chunk.clone());
            let (rows, n_keys) = (n * chunk.len(), keys.len());
            self.turned_queries(task, chunk.clone(), &mut queries);
            self.gather(g, task, chunk.clone(), &mut out);
            let near = &all_keys[((task.row * n_kv_heads + task.head) * t + keys.start) * d..][..n_keys * d];
            self.scores(&queries, near, &mut shares);
            d_shares.resize(rows * n_keys, 0.0);
            let out_part = Part::of(&out, [rows, d]);
            product_into(&mut d_shares, n_keys, out_part, self.values(task, &keys).turned(), false, false);
            let logs = &logs[(start - task.queries.start) * n..];
            let both = shares.chunks_mut(n_keys).zip(d_shares.chunks_mut(n_keys));
            for (i, ((shares, d_shares), log)) in both.zip(logs).enumerate() {
                let seen = self.seen(task.row, start + i % chunk.len(), &keys);
                shares_again(shares, d_shares, seen, *log, cap);
            }
            let (into, d_scores) = ((keys.start - all.start) * d, Part::of(&d_shares, [rows, n_keys]));
            let shares = Part::of(&shares, [rows, n_keys]);
            product_into(&mut found.values[into..], d, shares.turned(), out_part, true, false);
            let queries = Part::of(&queries, [rows, d]);
            product_into(&mut found.keys[into..], d, d_scores.turned(), queries, true, false);
            d_queries.resize(rows * d, 0.0);
            product_into(&mut d_queries, d, d_scores, Part::of(near, [n_keys, d]), false, false);
            for (i, d_query) in d_queries.chunks_mut(d).enumerate() {
                let (head, place) = (i / chunk.len(), start + i % chunk.len());
                for x in d_query.iter_mut() {
                    *x *= scale;
                }
                self.turn(d_query, task.row, place, -1.0);
                found.queries[((place - task.queries.start) * n + head) * d..][..d].copy_from_slice(d_query);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use burn::tensor::{Tensor, TensorData};
    use burn_backend::Tolerance;

    use super::super::{masked_softmax, rotate, soft_cap};
    use super::{Angles, HeadShape, Spans, attend};
    use crate::device::cpu;

    fn some<const D: usize>(dims: [usize; D], salt: usize) -> Tensor<D> {
        let number = |i: usize| ((i * 7919 + salt * 104_729) % 1009) as f32 / 504.5 - 1.0;
        let n = dims.iter().product();
        Tensor::from_data(TensorData::new((0..n).map(number).collect::<Vec<f32>>(), dims), &cpu())
    }

    /// Burn's operations, one after the other.
    fn composed([q, k, v]: [Tensor<3>; 3], angles: &Angles, spans: &Spans, shape: HeadShape) -> Tensor<3> {
        let HeadShape { n_heads: h, n_kv_heads: g, width: d, scale, cap } = shape;
        let [b, t, _] = q.dims();
        let heads = |x: Tensor<3>, n: usize| x.reshape([b, t, n, d]).swap_dims(1, 2);
        let turned = |x: Tensor<4>| {
            let turning = 2 * angles.half;
            let turned = rotate(x.clone().narrow(3, 0, turning), angles, |x| x);
            if turning == d {
                turned
            } else {
                Tensor::cat(vec![turned, x.narrow(3, turning, d - turning)], 3)
            }
        };
        let each = |x: Tensor<4>| x.reshape([b, g, 1, t, d]).repeat_dim(2, h / g).reshape([b, h, t, d]);
        let (q, k, v) = (turned(heads(q, h)), each(turned(heads(k, g))), each(heads(v, g)));
        let scores = soft_cap((q * scale).matmul(k.swap_dims(2, 3)), cap.map(f64::from));
        let mask = spans.first.iter().enumerate().flat_map(|(i, first)| {
            (0..t).map(move |key| if (*first as usize..=i % t).contains(&key) { 0.0f32 } else { -1e30 })
        });
        let n_lists = spans.first.len() / t;
        let mask = Tensor::from_data(TensorData::new(mask.collect(), [n_lists, 1, t, t]), &cpu());
        let shares = masked_softmax(scores, Some(&mask));
        shares.matmul(v).swap_dims(1, 2).reshape([b, t, h * d])
    }

    #[test]
    fn values_and_gradients_are_those_of_the_composed_form() {
        let window = |t: usize, reach: usize| (0..t).map(move |i| (i + 1).saturating_sub(reach) as u32);
        let documents = |t: usize, len: usize| (0..t).map(move |i| (i / len * len) as u32);
        for (b, t, [h, g, d], half, cap, spans) in [
            (1, 5, [2, 1, 4], 2, None, window(5, 9).collect::<Vec<u32>>()),
            (2, 70, [6, 2, 8], 4, Some(0.7), window(70, 11).collect()),
            (1, 300, [3, 3, 6], 2, None, documents(300, 41).collect()),
            (2, 290, [4, 2, 16], 8, None, window(290, 999).chain(documents(290, 150)).collect()),
        ] {
            let shape = HeadShape { n_heads: h, n_kv_heads: g, width: d, scale: 0.6, cap };
            let of =
                |turn: fn(f32) -> f32| (0..t * half).map(|i| turn(i as f32 * 0.37)).collect::<Vec<f32>>();
            let angles = Angles { cos: Arc::new(of(f32::cos)), sin: Arc::new(of(f32::sin)), half };
            let spans = Spans { first: Arc::new(spans) };
            let leaf = |n: usize, salt| some([b, t, n * d], salt).autodiff().require_grad();
            let (q, k, v) = (leaf(h, 1), leaf(g, 2), leaf(g, 3));
            let seed = some([b, t, h * d], 4);
            let inputs = || [q.clone(), k.clone(), v.clone()];
            let (ours, theirs) =
                (attend(inputs(), &angles, &spans, shape), composed(inputs(), &angles, &spans, shape));
            let close = Tolerance::<f32>::rel_abs(1e-4, 1e-5);
            ours.clone().into_data().assert_approx_eq(&theirs.clone().into_data(), close);
            let plain = inputs().map(Tensor::inner);
            let plain = attend(plain, &angles, &spans, shape).into_data();
            plain.assert_eq(&ours.clone().into_data(), true);
            let mut ours = (ours * seed.clone()).sum().backward();
            let mut theirs = (theirs * seed).sum().backward();
            for leaf in inputs() {
                let (ours, theirs) = (leaf.grad_remove(&mut ours), leaf.grad_remove(&mut theirs));
                ours.unwrap().into_data().assert_approx_eq(&theirs.unwrap().into_data(), close);
            }
        }
    }

    #[test]
    fn a_document_alone_is_what_it_is_beside_others() {
        let shape = HeadShape { n_heads: 2, n_kv_heads: 1, width: 4, scale: 1.0, cap: None };
        let (t, len) = (90, 30);
        let of =
            |turn: fn(f32) -> f32| (0..t * 2).map(|i| turn((i % (len * 2)) as f32)).collect::<Vec<f32>>();
        let angles = |n: usize| Angles {
            cos: Arc::new(of(f32::cos)[..n * 2].to_vec()),
            sin: Arc::new(of(f32::sin)[..n * 2].to_vec()),
            half: 2,
        };
        let spans = |n: usize| Spans { first: Arc::new((0..n).map(|i| (i / len * len) as u32).collect()) };
        let inputs = [some([1, t, 8], 1), some([1, t, 4], 2), some([1, t, 4], 3)];
        let all = attend(inputs.clone(), &angles(t), &spans(t), shape);
        for document in 0..t / len {
            let alone = inputs.clone().map(|x| x.narrow(1, document * len, len));
            let alone = attend(alone, &angles(len), &spans(len), shape);
            let beside = all.clone().narrow(1, document * len, len);
            let worst = (alone - beside).abs().max().into_scalar::<f32>();
            assert!(worst < 1e-6, "{worst}");
        }
    }
}
