//! Rows that decode together, each at its own place in its own answer.
//!
//! All rows end at the same slot of the cache; what a shorter row lacks is padding between the common
//! prefix and its first own token. So a new prompt can take an ended row's place at any time, and when the
//! cache is full, what lies before the longest row is forgotten.

use burn::tensor::{Int, Tensor, TensorData};

use super::pick::{Past, next_tokens};
use super::prefix::Prefix;
use super::stop::Watch;
use super::{Completion, Decoding, Finish, Generator, Query, cut_at_stop_string};
use crate::device::is_cpu;
use crate::model::{Cache, Positions, Push, Steering, Walk};

/// Positions that prompts are computed in at once: scores of long prompts are large. On a processor they take a
/// second, and who asks to stop waits no longer.
const PREFILL_POSITIONS: [usize; 2] = [4096, 1024];

/// One row.
struct Row {
    /// Position of the prompt among those asked; `None` when the row has nothing to do.
    query: Option<usize>,
    new_ids: Vec<u32>,
    watch: Watch,
    past: Past,
    padding: usize,
    /// The token to feed next.
    next: u32,
}

/// A running batch.
pub(super) struct Batch<'a, 'p> {
    generator: &'a Generator<'a>,
    queries: &'a [Query<'p>],
    decoding: &'a Decoding,
    prefix: &'a Prefix,
    cache: Cache,
    rows: Vec<Row>,
}

type Done = Vec<(usize, Completion)>;

impl<'a, 'p> Batch<'a, 'p> {
    /// Computes the prompts `first`, the longest of all that will come, and each one's first token.
    pub(super) fn start(
        generator: &'a Generator<'a>,
        queries: &'a [Query<'p>],
        decoding: &'a Decoding,
        prefix: &'a Prefix,
        first: &[usize],
    ) -> (Self, Done) {
        let width = first.iter().map(|i| queries[*i].ids.len()).max().unwrap_or(0).max(prefix.len + 1);
        // Some room beyond the longest answer, or a full cache would move at every step.
        let room = width + decoding.max_new_tokens + decoding.max_new_tokens / 4 + 16;
        let mut cache = prefix.rows(generator.decoder, first.len(), room);
        cache.pad_to(width);
        let mut batch = Self { generator, queries, decoding, prefix, cache, rows: Vec::new() };
        batch.rows = first.iter().map(|i| batch.row(*i)).collect();
        let places: Vec<usize> = (0..first.len()).collect();
        let done = batch.prefill(&places);
        (batch, done)
    }

    fn row(&self, query: usize) -> Row {
        let own = self.queries[query].ids.len().max(1) - self.prefix.len;
        let padding = self.cache.len() - self.prefix.len - own;
        let past = Past::new(&self.queries[query], self.decoding);
        Row { query: Some(query), new_ids: Vec::new(), watch: Watch::default(), past, padding, next: 0 }
    }

    pub(super) fn n_rows(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn n_idle(&self) -> usize {
        self.rows.iter().filter(|row| row.query.is_none()).count()
    }

    /// Gives idle rows to the prompts `queries`, of which there are no more than idle rows.
    pub(super) fn refill(&mut self, queries: &[usize]) -> Done {
        let longest = queries.iter().map(|i| self.queries[*i].ids.len()).max().unwrap_or(0);
        self.forget(longest);
        let idle = (0..self.rows.len()).filter(|i| self.rows[*i].query.is_none());
        let places: Vec<usize> = idle.take(queries.len()).collect();
        for (place, query) in places.iter().zip(queries) {
            self.rows[*place] = self.row(*query);
        }
        self.prefill(&places)
    }

    /// Forgets what lies before the longest row, or before `at_least` tokens, where that is worth it.
    fn forget(&mut self, at_least: usize) {
        let (prefix, len) = (self.prefix.len, self.cache.len());
        let alive = self.rows.iter().filter(|row| row.query.is_some());
        let longest = alive.map(|row| len - prefix - row.padding).max().unwrap_or(0);
        let longest = longest.max(at_least.saturating_sub(prefix)).max(1);
        let is_full = len + 1 > self.cache.capacity();
        if is_full || 2 * (len - prefix) > 3 * longest + 64 {
            let gone = len - prefix - longest;
            self.cache.keep_last(prefix, longest);
            self.rows.iter_mut().for_each(|row| row.padding = row.padding.saturating_sub(gone));
        }
    }

    /// Computes the prompts of the rows at `places` and takes each one's first token.
    fn prefill(&mut self, places: &[usize]) -> Done {
        let mut done = Vec::new();
        let mut rest = places;
        let decoder = self.generator.decoder;
        let most = PREFILL_POSITIONS[usize::from(is_cpu(&decoder.device))];
        while let Some(first) = rest.first().filter(|_| !self.generator.is_stopped()) {
            let prefix = self.prefix.len;
            let own = |place: &usize| self.cache.len() - prefix - self.rows[*place].padding;
            // They come longest first.
            let width = own(first);
            let (now, later) = rest.split_at((most / width).clamp(1, rest.len()));
            rest = later;
            let mut cache = self.prefix.rows(decoder, now.len(), prefix + width);
            let padding: Vec<usize> = now.iter().map(|place| width - own(place)).collect();
            let tokens = now.iter().zip(&padding).flat_map(|(place, padding)| {
                let query = self.rows[*place].query.expect("a row that is filled has a prompt");
                let ids = &self.queries[query].ids;
                // An empty prompt is one padding token.
                let ids = if ids.is_empty() { &[0] } else { &ids[prefix..] };
                std::iter::repeat_n(0, *padding).chain(ids.iter().copied())
            });
            let ids: Vec<u32> = tokens.collect();
            let logits = self.logits(&ids, &padding, now, &mut cache);
            for (row, place) in now.iter().enumerate() {
                self.cache.put_row(*place, &cache, row, prefix);
            }
            done.extend(self.take_next(logits, now));
        }
        done
    }

    /// Feeds every row its next token and takes the one behind it; hands over what has ended.
    pub(super) fn step(&mut self) -> Done {
        let all: Vec<usize> = (0..self.rows.len()).collect();
        if self.turns_anew() {
            return self.renew(&all);
        }
        self.forget(0);
        let ids: Vec<u32> = self.rows.iter().map(|row| row.next).collect();
        let padding: Vec<usize> = self.rows.iter().map(|row| row.padding).collect();
        let mut cache = std::mem::take(&mut self.cache);
        let logits = self.logits(&ids, &padding, &all, &mut cache);
        self.cache = cache;
        self.take_next(logits, &all)
    }

    /// Whether the next token is the first that is turned by other angles than those before it.
    fn turns_anew(&self) -> bool {
        let n_short = self.generator.decoder.shape.rope.n_short();
        let mut alive = self.rows.iter().filter(|row| row.query.is_some());
        n_short.is_some_and(|n| alive.any(|row| row.padding + n == self.cache.len()))
    }

    /// Computes all rows from their first token on: keys turned by the old angles are of no use to the
    /// new ones.
    fn renew(&mut self, all: &[usize]) -> Done {
        let width = self.cache.len() + 1;
        let row = |row: &Row| {
            let prompt = row.query.map_or(&[][..], |query| self.queries[query].ids);
            let tokens = prompt.iter().chain(&row.new_ids).copied();
            let mut tokens: Vec<u32> = std::iter::repeat_n(0, row.padding).chain(tokens).collect();
            tokens.resize(width, 0);
            tokens
        };
        let ids: Vec<u32> = self.rows.iter().flat_map(row).collect();
        let padding: Vec<usize> = self.rows.iter().map(|row| row.padding).collect();
        let mut cache = self.prefix.rows(self.generator.decoder, all.len(), self.cache.capacity());
        let logits = self.logits(&ids, &padding, all, &mut cache);
        self.cache = cache;
        self.take_next(logits, all)
    }

    /// The logits behind the last of the new tokens `ids` of the rows at `places`, `[b, v]`.
    fn logits(&self, ids: &[u32], padding: &[usize], places: &[usize], cache: &mut Cache) -> Tensor<2> {
        let decoder = self.generator.decoder;
        let b = padding.len();
        let t = ids.len() / b;
        let positions = Positions::left_padded(self.prefix.len, padding, cache.len(), t);
        let ids: Vec<i32> = ids.iter().map(|id| id.cast_signed()).collect();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [b, t]), &decoder.device);
        let last = vec![vec![t - 1]; b];
        let push = |place: &usize| self.queries[self.rows[*place].query?].push;
        let pushes: Vec<Option<Push>> = places.iter().map(push).collect();
        let steering = Steering::new(decoder.directions.as_ref(), &positions, &pushes);
        let walk =
            Walk { cache: Some(cache), at: Some(&last), steering: steering.as_ref(), ..Walk::default() };
        let hidden = decoder.walk(ids, &positions, walk); // [b, 1, m]
        let m = hidden.dims()[2];
        decoder.frozen_head().logits(hidden.reshape([b, m])) // [b, v]
    }

    /// Takes the next token of the rows at `places`, which the logits belong to.
    fn take_next(&mut self, logits: Tensor<2>, places: &[usize]) -> Done {
        let mut wanted = places.iter().peekable();
        let pasts = self.rows.iter_mut().enumerate().filter_map(|(i, row)| {
            wanted.next_if(|place| **place == i)?;
            Some(row.query.is_some().then_some(&mut row.past))
        });
        let next = next_tokens(logits, pasts.collect(), self.decoding);
        let mut done = Vec::new();
        for (place, id) in places.iter().zip(next) {
            let row = &mut self.rows[*place];
            let Some(query) = row.query else { continue };
            row.next = id;
            if let Some(finish) = ends(row, id, self.generator, self.decoding) {
                let ids = std::mem::take(&mut row.new_ids);
                let text = (self.generator.decode)(&ids);
                let Decoding { stop_strings, thinking, .. } = self.decoding;
                let text = cut_at_stop_string(&text, stop_strings, thinking.as_ref()).to_owned();
                done.push((query, Completion { ids, text, finish }));
                row.query = None;
            }
        }
        done
    }

    /// Drops idle rows once a quarter is idle: dropping copies the cache.
    pub(super) fn shrink(&mut self) {
        let alive: Vec<i32> =
            (0i32..).zip(&self.rows).filter(|(_, row)| row.query.is_some()).map(|(i, _)| i).collect();
        let n = alive.len();
        if 4 * n > 3 * self.rows.len() {
            return;
        }
        let device = &self.generator.decoder.device;
        self.cache.keep_rows(Tensor::<1, Int>::from_data(TensorData::new(alive, [n]), device));
        self.rows.retain(|row| row.query.is_some());
    }
}

/// Adds a token to a row; says so when that ends it.
fn ends(row: &mut Row, id: u32, generator: &Generator<'_>, decoding: &Decoding) -> Option<Finish> {
    if decoding.stop_ids.contains(&id) {
        return Some(Finish::Stop);
    }
    row.new_ids.push(id);
    row.past.push(id, decoding);
    let (stops, thinking) = (&decoding.stop_strings, decoding.thinking.as_ref());
    if row.watch.stops(&row.new_ids, stops, thinking, generator.decode) {
        return Some(Finish::Stop);
    }
    (row.new_ids.len() == decoding.max_new_tokens).then_some(Finish::Length)
}
