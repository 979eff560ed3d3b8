//! One model's weights as they are, or scaled.

use serde::Deserialize;

use crate::merge::{Given, Merge, Method, Needs, Rule, Whole};

pub(super) const PASSTHROUGH: Method = Method {
    name: "passthrough",
    summary: "one model as it is, for putting layers together",
    source: "mergekit",
    example: "",
    needs: Needs::PAIR,
    from_spec: |_| Err("it copies one model and merges nothing".to_owned()),
    of_models: &["scale"],
    from_settings: |settings| {
        settings.inputs(1..=1)?;
        let mut each: Vec<One> = settings.each()?;
        Ok(Box::new(each.remove(0)))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    scale: Option<f64>,
}

/// The method that multiplies its one input; by 1 it leaves it as it is.
pub fn scaled_by(scale: f64) -> Box<dyn Merge> {
    Box::new(One { scale: Some(scale) })
}

impl Merge for One {
    fn end(&self, _base: Option<usize>) -> Option<usize> {
        self.scale.is_none_or(|scale| scale == 1.0).then_some(0)
    }

    fn keeps_equals(&self) -> bool {
        self.end(None).is_some()
    }

    fn prepare(&self, _whole: &Whole<'_>) -> Box<dyn Rule + '_> {
        Box::new(self)
    }
}

impl Rule for &One {
    fn merge(&self, given: &Given<'_>, out: &mut [f32]) {
        let scale = self.scale.unwrap_or(1.0) as f32;
        out.iter_mut().zip(given.inputs[0]).for_each(|(out, x)| *out = x * scale);
    }
}
