//! Who plays what: which weights are base, tuned and merged, each read where it lies and none of them rounded
//! before it is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

mod aligned;
mod candidate;
mod guarded;
mod importance;
mod trained;

use aligned::{aligned, weights_of};
pub use candidate::Candidate;
use candidate::{Origin, twins};
pub use trained::{adapted, adapter, key_of_tuned};
use trained::{average, checkpoint as tuned_at, full};

use super::failure::Failure;
use super::plan::guard::GuardPlan;
use super::plan::helpers::{Helpers, looked_at};
use super::plan::model::DTYPE_OPTION;
use super::plan::named::Named;
use super::plan::{Base, Plan, Steering};
use super::session::Session;
use crate::event::Event;
use crate::generate;
use crate::merge::{
    Alignments, EMBEDDING, HEAD, MergeReport, Merged, Pair, Resolved, Role, Rounded, Unmatched,
};
use crate::model::{Decoder, DecoderShape, Directions};
use crate::recipe::{Helper, MethodKind};
use crate::snapshot::digest::{self, Algorithm, of_json};
use crate::snapshot::{Dtype, Dtypes, SharedWeights};
use crate::train::Machine;
use crate::train::checkpoint::{self, Checkpoints};

/// A role's weights and the digest of what decides them.
#[derive(Clone)]
pub struct RoleWeights {
    pub weights: SharedWeights,
    pub key: String,
}

/// The weights of every role, and the candidates that are made of them.
pub struct Cast {
    pub candidates: Vec<Candidate>,
    roles: BTreeMap<Role, RoleWeights>,
    /// Models of one's own; they come last.
    named: Vec<RoleWeights>,
    /// The checkpoints that are compared by merges of several tuned models.
    compared: Vec<SharedWeights>,
    importance: Option<[SharedWeights; 2]>,
    /// Other models, scores and masks that merges look at.
    helpers: BTreeMap<Helper, SharedWeights>,
    /// How the update of each tuned role lies to the alignment, looked at once for all merges.
    alignments: BTreeMap<Role, Arc<Alignments>>,
    /// By candidate, what decides a merge besides base, tuned model and spec.
    besides: Vec<Vec<Value>>,
    /// What steers those candidates that are steered.
    steering: Option<Arc<Steering>>,
    /// Who stands in front of some candidates.
    guard: Option<GuardPlan>,
    /// The dtypes that every candidate is rounded to.
    dtypes: Dtypes,
    /// The weights in which candidates can differ from the base; absent where all can.
    touched: Option<BTreeSet<String>>,
}

/// What candidates are made of besides the models of roles.
#[derive(Default)]
pub struct Parts {
    /// The tuned models for merges of several.
    pub compared: Vec<SharedWeights>,
    /// Models of one's own.
    pub others: Vec<RoleWeights>,
    /// What merges look at besides.
    pub helpers: Helpers,
}

/// A candidate's weights, rounded as they would be written.
pub struct CandidateWeights {
    pub weights: SharedWeights,
    /// Knows what the merge did to the weights that were read.
    merged: Option<Arc<Merged>>,
}

impl CandidateWeights {
    /// What the merge did to the weights that were read so far.
    pub fn report(&self) -> Option<MergeReport> {
        self.merged.as_ref().map(|merged| merged.report().0)
    }
}

impl Cast {
    /// The cast of a run whose training is finished; what merges need and is not there yet is computed.
    ///
    /// # Errors
    ///
    /// A file is missing or broken, or the run was asked to stop.
    pub fn of_run(plan: &Plan, session: &mut Session<'_>) -> Result<Self, Failure> {
        let Plan { model, base, training, merging, machine, .. } = plan;
        let train = session.folder().train();
        let start = &plan.start(session.folder())?;
        let average = average(model, start, training, session.folder())?;
        let (tuned, touched) = match training.method.kind {
            MethodKind::Lora => {
                let step = training.last_step;
                let maps = adapter(model, training, session.folder(), step)?;
                let touched = maps.pairs.keys().map(|module| format!("{module}.weight"));
                let rows = model.marks.iter().flat_map(|_| [EMBEDDING.to_owned(), HEAD.to_owned()]);
                let touched = touched.chain(rows).collect();
                (adapted(model, start, training, session.folder(), step)?, Some(touched))
            }
            MethodKind::Full => (full(session.folder(), training.last_step)?, None),
        };
        // A merge that looks at other models, and what hardens, may change what this training left alone.
        let touched = touched.filter(|_| merging.helpers.is_empty() && plan.hardening.is_none());
        let compared = merging.checkpoints.iter();
        let compared = compared.map(|step| tuned_at(model, start, training, session.folder(), *step));
        let compared = compared.collect::<Result<_, _>>()?;
        let importance = match &merging.importance {
            Some(planned) => Some(importance::computed(plan, planned, &tuned, session)?),
            None => None,
        };
        let checkpoints = Checkpoints::new(&train, 0);
        let of_step =
            |step: usize, file: &str| digest::known(&checkpoints.path(step).join(file), Algorithm::Blake3);
        let last = checkpoints.path(training.last_step);
        let key = key_of_tuned(start, &training.method, &last.join(checkpoint::WEIGHTS))?;
        let mut others = Vec::new();
        for step in &merging.checkpoints {
            others.push(of_step(*step, checkpoint::WEIGHTS)?);
        }
        if importance.is_some() && training.method.kind == MethodKind::Full {
            others.push(of_step(training.last_step, checkpoint::OPTIMIZER)?);
        }
        let candidates = Candidate::of(&training.roles(), &merging.merges, &merging.named);
        let steering = plan.steering.clone();
        let mut roles = BTreeMap::from([
            (Role::Base, part_of(base, machine)),
            (Role::Tuned, RoleWeights { weights: tuned, key: numerics(&key, machine) }),
        ]);
        if plan.hardening.is_some() {
            roles.insert(Role::Hardened, part_of(start, machine));
        }
        if let Some(weights) = average {
            let key = key_of_tuned(start, &training.method, &last.join(checkpoint::AVERAGE))?;
            roles.insert(Role::Ema, RoleWeights { weights, key: numerics(&key, machine) });
        }
        let besides = |candidate: &Candidate| {
            candidate.merge().map(|merge| merging.besides(merge, &others)).unwrap_or_default()
        };
        let cast = Self {
            besides: candidates.iter().map(besides).collect(),
            candidates,
            alignments: aligned(&roles, &merging.helpers),
            helpers: weights_of(&merging.helpers),
            roles,
            named: merging.named.iter().map(|one| named(one, machine)).collect(),
            compared,
            importance,
            steering: None,
            guard: None,
            dtypes: base.dtypes.clone(),
            touched,
        };
        Ok(cast.with_steered(steering))
    }

    /// Models by their roles, however they came about, and the candidates that are made of them.
    pub fn of_parts(
        roles: BTreeMap<Role, RoleWeights>,
        Parts { compared, others, helpers }: Parts,
        candidates: Vec<Candidate>,
        dtypes: Dtypes,
    ) -> Self {
        let besides = |candidate: &Candidate| {
            let Some(merge) = candidate.merge() else { return Vec::new() };
            merge.seed().map(|seed| json!(seed)).into_iter().chain(looked_at(merge, &helpers)).collect()
        };
        Self {
            besides: candidates.iter().map(besides).collect(),
            candidates,
            alignments: aligned(&roles, &helpers),
            roles,
            named: others,
            compared,
            importance: None,
            helpers: weights_of(&helpers),
            steering: None,
            guard: None,
            dtypes,
            touched: None,
        }
    }

    /// The same cast with a steered twin of every candidate that `steering` names.
    #[must_use]
    pub fn with_steered(mut self, steering: Option<Arc<Steering>>) -> Self {
        for (nth, twin) in twins(&self.candidates, steering.as_deref()) {
            self.candidates.push(twin);
            self.besides.push(self.besides[nth].clone());
        }
        self.steering = steering.or(self.steering);
        self
    }

    /// What steers a candidate, if anything does.
    pub fn steering(&self, candidate: &Candidate) -> Option<&Steering> {
        self.steering.as_deref().filter(|_| candidate.steered)
    }

    /// What decides a candidate's weights and what steers them, nothing of the run: a digest.
    pub fn key(&self, nth: usize) -> String {
        let parts = match &self.candidates[nth].made {
            Origin::Of(role) => json!([self.part(*role).key]),
            Origin::Named(nth) => json!([self.named[*nth].key]),
            Origin::Guarded(nth) => {
                json!([self.key(*nth), self.guard.as_ref().map(GuardPlan::of_route)])
            }
            Origin::By(merge) => {
                let keys = [Role::Base, merge.of()].map(|role| &self.part(role).key);
                json!([keys, merge.name(), self.besides[nth]])
            }
        };
        let key = of_json(&json!([parts, self.dtypes]));
        match self.steering(&self.candidates[nth]) {
            Some(steering) => of_json(&json!([key, "steered", steering.key])),
            None => key,
        }
    }

    /// What the weights of all roles depend on, a digest: candidates of casts with the same can be compared.
    pub fn made_of(&self) -> String {
        let keys: Vec<&String> = self.roles.values().map(|part| &part.key).collect();
        of_json(&json!([keys, self.dtypes]))
    }

    fn part(&self, role: Role) -> &RoleWeights {
        self.roles.get(&role).expect("a candidate is made of roles that are filled")
    }

    /// A candidate's weights.
    ///
    /// # Errors
    ///
    /// A merge cannot be made of the models that are there.
    pub fn played(&self, candidate: &Candidate) -> Result<CandidateWeights, Failure> {
        let own = match &candidate.made {
            Origin::By(merge) => return self.merged(merge, &self.dtypes),
            Origin::Of(role) => self.part(*role),
            Origin::Named(nth) => &self.named[*nth],
            Origin::Guarded(nth) => return self.played(&self.candidates[*nth]),
        };
        let weights = Rounded::new(own.weights.clone(), &self.dtypes);
        Ok(CandidateWeights { weights: Arc::new(weights), merged: None })
    }

    /// Looks at all that the candidate's merge must know before it can choose, if it chooses.
    ///
    /// # Errors
    ///
    /// A weight cannot be read, or the run was asked to stop.
    pub fn settle(&self, candidate: &Candidate, session: &mut Session<'_>) -> Result<(), Failure> {
        let merge = candidate.made_by().filter(|merge| merge.chooses());
        let alignments = merge.and_then(|merge| self.alignments.get(&merge.of()));
        let Some(alignments) = alignments.filter(|known| !known.is_settled()) else { return Ok(()) };
        let n = alignments.names().count();
        session.stage("alignment of the update", (n as u64, None), |session| {
            for (nth, name) in alignments.names().enumerate() {
                alignments.of(name)?;
                session.event(Event::Progress { done: nth as u64 + 1, remaining: None })?;
                session.go_on()?;
            }
            Ok(())
        })
    }

    /// A candidate's weights before they are rounded.
    ///
    /// # Errors
    ///
    /// As [`Self::played`].
    pub fn exact(&self, candidate: &Candidate) -> Result<SharedWeights, Failure> {
        Ok(match &candidate.made {
            Origin::By(merge) => self.merged(merge, &Dtypes::all(Dtype::F32))?.weights,
            Origin::Of(role) => self.part(*role).weights.clone(),
            Origin::Named(nth) => self.named[*nth].weights.clone(),
            Origin::Guarded(nth) => return self.exact(&self.candidates[*nth]),
        })
    }

    /// The dtypes that every candidate is rounded to.
    pub fn dtypes(&self) -> &Dtypes {
        &self.dtypes
    }

    /// The same cast with more models, each under its name; the key of each is the digest of all that decides it.
    #[must_use]
    pub fn with(mut self, models: Vec<(String, RoleWeights)>) -> Self {
        for (name, weights) in models {
            self.candidates.push(Candidate::named(&name, self.named.len()));
            self.besides.push(Vec::new());
            self.named.push(weights);
        }
        self
    }

    /// Base, tuned model and these merges of the two, beside whatever candidates this cast has.
    #[must_use]
    pub fn of_pair(&self, merges: &[Resolved]) -> Self {
        let roles = [Role::Base, Role::Tuned];
        let parts = roles.iter().map(|role| (*role, self.part(*role).clone())).collect();
        Self::of_parts(parts, Parts::default(), Candidate::of(&roles, merges, &[]), self.dtypes.clone())
    }

    /// Says which merge a candidate is that was to be found out.
    pub fn settle_as(&mut self, nth: usize, merge: Resolved) {
        self.candidates[nth].made = Origin::By(merge);
    }

    fn merged(&self, merge: &Resolved, dtypes: &Dtypes) -> Result<CandidateWeights, Failure> {
        let tuned = match merge.method.needs.several_tuned() {
            true => self.compared.clone(),
            false => vec![self.part(merge.of()).weights.clone()],
        };
        // What a base has besides its model, such as tables that follow from its configuration, stays.
        let pair = Pair {
            base: self.part(Role::Base).weights.clone(),
            tuned,
            importance: self.importance.clone(),
            helpers: self.helpers.clone(),
            unmatched: Unmatched::OfBase,
            alignments: self.alignments.get(&merge.of()).cloned(),
        };
        let merged = Arc::new(pair.merged(merge, dtypes, DTYPE_OPTION)?);
        Ok(CandidateWeights { weights: merged.clone(), merged: Some(merged) })
    }

    /// Puts a candidate on the device. Of a decoder that is there already, what tuning did not touch is
    /// the same for every candidate and stays.
    ///
    /// # Errors
    ///
    /// A weight cannot be read or computed.
    pub fn load(
        &self,
        candidate: &Candidate,
        shape: &DecoderShape,
        machine: &Machine,
        there: Option<Decoder>,
    ) -> Result<(Decoder, Option<MergeReport>), Failure> {
        let played = self.played(candidate)?;
        let mut decoder = match there {
            None => Decoder::load(shape, played.weights.as_ref(), &machine.device, machine.answers)?,
            Some(mut decoder) => {
                // A model of one's own, and what comes after it, may differ everywhere.
                let is_other = matches!(candidate.made, Origin::Named(_));
                let touched =
                    |name: &str| is_other || self.touched.as_ref().is_none_or(|names| names.contains(name));
                decoder.reload(played.weights.as_ref(), touched)?;
                decoder
            }
        };
        let compute = decoder.compute;
        let on_device = |steering: &Steering| {
            let alpha = steering.scans.settings.alpha as f32;
            Directions::new(&steering.scans.directions(), alpha, &machine.device, compute)
        };
        decoder.directions = self.steering(candidate).map(on_device);
        Ok((decoder, played.report()))
    }
}

/// A model of one's own as a part.
pub fn named(named: &Named, machine: &Machine) -> RoleWeights {
    RoleWeights { weights: named.weights.clone(), key: numerics(&named.key, machine) }
}

/// The base as a part.
pub fn part_of(base: &Base, machine: &Machine) -> RoleWeights {
    RoleWeights { weights: base.weights.clone(), key: numerics(&base.key, machine) }
}

/// A key of weights with how they are computed with.
pub fn numerics(key: &str, machine: &Machine) -> String {
    of_json(&json!([key, format!("{:?}", machine.answers), generate::NUMERICS]))
}
