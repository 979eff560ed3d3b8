//! Python's values that are no lists: generators, ranges, views of dicts, bound methods.

use std::fmt;
use std::sync::{Arc, Mutex};

use minijinja::value::{DynObject, Enumerator, Object, ObjectRepr, Tuple};
use minijinja::{Error, State, Value};

use super::invalid;

/// A generator: true, without a length, used up by one pass.
#[derive(Debug)]
pub(super) struct Lazy(Mutex<std::vec::IntoIter<Value>>);

impl Lazy {
    pub fn value(items: Vec<Value>) -> Value {
        Value::from_object(Self(Mutex::new(items.into_iter())))
    }
}

impl Object for Lazy {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn get_value(self: &Arc<Self>, _: &Value) -> Option<Value> {
        Some(Value::UNDEFINED)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Iter(Box::new(Pass(self.clone())))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        None
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }
}

struct Pass(Arc<Lazy>);

impl Iterator for Pass {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        self.0.0.lock().ok()?.next()
    }

    /// Exact, as loops tell their length and their last pass by it.
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.0.lock().map_or((0, None), |items| items.size_hint())
    }
}

/// What `dict.keys()`, `.values()` and `.items()` return.
#[derive(Debug)]
pub(super) struct View {
    dict: DynObject,
    pub name: &'static str,
}

impl View {
    pub fn value(dict: &Value, name: &str) -> Option<Value> {
        let name = ["keys", "values", "items"].into_iter().find(|known| *known == name)?;
        Some(Value::from_object(Self { dict: dict.as_object()?.clone(), name }))
    }
}

impl Object for View {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn get_value(self: &Arc<Self>, _: &Value) -> Option<Value> {
        Some(Value::UNDEFINED)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let pairs = self.dict.try_iter_pairs().into_iter().flatten();
        Enumerator::Values(match self.name {
            "keys" => pairs.map(|(key, _)| key).collect(),
            "values" => pairs.map(|(_, value)| value).collect(),
            _ => pairs.map(|(key, value)| Value::from(Tuple::from([key, value]))).collect(),
        })
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        self.dict.enumerator_len()
    }
}

#[derive(Debug)]
pub(super) struct Range {
    start: i64,
    stop: i64,
    step: i64,
    len: usize,
}

/// `range`, of at most as many numbers as Jinja's sandbox allows.
pub(in super::super) fn range(first: i64, second: Option<i64>, step: Option<i64>) -> Result<Value, Error> {
    const MAX_RANGE: u64 = 100_000;
    let (start, stop) = second.map_or((0, first), |stop| (first, stop));
    let step = step.unwrap_or(1);
    let distance = match step {
        0 => return Err(invalid("`range` with a step of 0")),
        1.. => stop.checked_sub(start),
        _ => start.checked_sub(stop),
    };
    let distance = distance.ok_or_else(|| invalid("`range` is too large"))?;
    let len = u64::try_from(distance).unwrap_or(0).div_ceil(step.unsigned_abs());
    if len > MAX_RANGE {
        return Err(invalid(format!("`range` has more than {MAX_RANGE} numbers")));
    }
    Ok(Value::from_object(Range { start, stop, step, len: len as usize }))
}

impl Object for Range {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let i = key.as_usize().filter(|i| *i < self.len)?;
        Some(Value::from(self.start + self.step * i as i64))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.len)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "range({}, {}", self.start, self.stop)?;
        if self.step == 1 { write!(f, ")") } else { write!(f, ", {})", self.step) }
    }
}

/// A method that is looked up and not called.
#[derive(Debug)]
pub(super) struct Bound {
    pub value: Value,
    pub name: String,
}

impl Object for Bound {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        self.value.call_method(state, &self.name, args)
    }
}
