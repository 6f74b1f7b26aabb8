use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use vision_nn::{
    Classifier, LayerNames, LayerPlace, ParameterMap, ParameterPath, is_running_statistic, map_parameters,
    parameter_shapes,
};

use crate::pattern;

/// Which parameters train, and how fast.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupOptions {
    /// Patterns of the names of parameters that stay as they are. A pattern is a whole name with `*` and `?`, or the name of a module.
    pub freeze: Vec<String>,
    /// The learning rate of a layer over that of the layer behind it: timm's `layer_decay`. The head has the full rate.
    pub layer_decay: Option<f64>,
    /// Times the learning rate of the head.
    pub head_learning_rate_scale: f64,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self { freeze: Vec::new(), layer_decay: None, head_learning_rate_scale: 1.0 }
    }
}

/// How one parameter trains.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterRule {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its layer as timm counts them for layer-wise decay, from 0, the stem.
    pub layer: usize,
    /// Times the learning rate.
    pub learning_rate_scale: f64,
    /// Whether weight decay acts on it: timm's rule leaves out vectors (norms, biases, layer scale) and what the model lists.
    pub is_decayed: bool,
    /// Whether it stays as it is: no gradient, no optimizer state, no decay.
    pub is_frozen: bool,
}

impl ParameterRule {
    /// How many numbers it has.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Parameters that train alike.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterGroup {
    /// Times the learning rate.
    pub learning_rate_scale: f64,
    /// Whether weight decay acts on them.
    pub is_decayed: bool,
    /// Whether they stay as they are.
    pub is_frozen: bool,
    /// Their names, sorted.
    pub names: Vec<String>,
    /// How many numbers they have together.
    pub parameters: usize,
}

/// The rule of every parameter of a model. Running statistics are no parameters.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ParameterGroups {
    rules: BTreeMap<String, ParameterRule>,
    /// Patterns that name no parameter.
    idle_patterns: Vec<String>,
}

impl ParameterGroups {
    /// The rules of `model`'s parameters. A pattern that names nothing is no error here: see [`check`](Self::check).
    pub fn of<M: Classifier>(model: &M, options: &GroupOptions) -> Self {
        Self::named(model, model.layer_names(), options)
    }

    /// The same for any module, whose layers go by `names`.
    pub fn named<M: Module>(model: &M, names: LayerNames, options: &GroupOptions) -> Self {
        let is_parameter = |(name, _): &(String, Vec<usize>)| !is_running_statistic(name);
        let shapes: Vec<(String, Vec<usize>)> = parameter_shapes(model).into_iter().filter(is_parameter).collect();
        let places: BTreeSet<LayerPlace> = shapes.iter().map(|(name, _)| names.place(name)).collect();
        let layers = number_layers(&places);
        let last = layers.values().copied().max().unwrap_or(0);
        let rule = |(name, shape): &(String, Vec<usize>)| {
            let place = names.place(name);
            let layer = layers[&place];
            let of_layer = options.layer_decay.map_or(1.0, |decay| decay.powi((last - layer) as i32));
            let of_head = if place == LayerPlace::Head { options.head_learning_rate_scale } else { 1.0 };
            let rule = ParameterRule {
                layer,
                learning_rate_scale: of_layer * of_head,
                is_decayed: shape.len() > 1 && !names.is_undecayed(name),
                is_frozen: options.freeze.iter().any(|pattern| pattern::matches(pattern, name)),
                shape: shape.clone(),
            };
            (name.clone(), rule)
        };
        let is_idle = |wanted: &&String| !shapes.iter().any(|(name, _)| pattern::matches(wanted, name));
        Self {
            rules: shapes.iter().map(rule).collect(),
            idle_patterns: options.freeze.iter().filter(is_idle).cloned().collect(),
        }
    }

    /// Whether the options make sense for the model.
    ///
    /// # Errors
    /// A pattern that names nothing, or patterns that leave nothing to train.
    pub fn check(&self) -> Result<(), GroupError> {
        if let Some(pattern) = self.idle_patterns.first() {
            return Err(GroupError::NothingMatches { pattern: pattern.clone(), known: self.known_names() });
        }
        match self.rules.values().all(|rule| rule.is_frozen) {
            true => Err(GroupError::EverythingFrozen { parameters: self.rules.len() }),
            false => Ok(()),
        }
    }

    /// The rule of the parameter of that name; none of a name that is no parameter's.
    pub fn rule(&self, name: &str) -> Option<&ParameterRule> {
        self.rules.get(name)
    }

    /// Names and rules, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ParameterRule)> {
        self.rules.iter().map(|(name, rule)| (name.as_str(), rule))
    }

    /// Whether the parameter of that name stays as it is.
    pub fn is_frozen(&self, name: &str) -> bool {
        self.rule(name).is_some_and(|rule| rule.is_frozen)
    }

    /// Parameters that train alike together: those with the lowest learning rate first, frozen ones before all.
    pub fn groups(&self) -> Vec<ParameterGroup> {
        let mut groups: Vec<ParameterGroup> = Vec::new();
        for (name, rule) in &self.rules {
            let (is_frozen, is_decayed) = (rule.is_frozen, rule.is_decayed && !rule.is_frozen);
            let learning_rate_scale = if is_frozen { 0.0 } else { rule.learning_rate_scale };
            let is_its = |group: &&mut ParameterGroup| {
                let scale = group.learning_rate_scale;
                (group.is_frozen, group.is_decayed, scale) == (is_frozen, is_decayed, learning_rate_scale)
            };
            match groups.iter_mut().find(is_its) {
                Some(group) => {
                    group.names.push(name.clone());
                    group.parameters += rule.elements();
                }
                None => groups.push(ParameterGroup {
                    learning_rate_scale,
                    is_decayed,
                    is_frozen,
                    names: vec![name.clone()],
                    parameters: rule.elements(),
                }),
            }
        }
        groups.sort_by(|one, other| {
            let scales = one.learning_rate_scale.total_cmp(&other.learning_rate_scale);
            other.is_frozen.cmp(&one.is_frozen).then(scales).then(other.is_decayed.cmp(&one.is_decayed))
        });
        groups
    }

    /// The model with its frozen parameters off the tape: their gradients are not computed, and nothing is kept for them.
    pub fn freeze<M: Module>(&self, model: M) -> M {
        struct Freeze<'a>(&'a ParameterGroups);
        impl ParameterMap for Freeze<'_> {
            fn map<const D: usize>(&mut self, name: &str, _id: ParamId, tensor: Tensor<D>) -> Tensor<D> {
                if self.0.is_frozen(name) { tensor.set_require_grad(false) } else { tensor }
            }
        }
        match self.rules.values().any(|rule| rule.is_frozen) {
            true => map_parameters(model, &mut Freeze(self)),
            false => model,
        }
    }

    /// Running statistics that stay as they are: those of a norm whose scale and shift are both frozen, as timm's `freeze` has it.
    pub(crate) fn frozen_statistics<M: Module>(&self, model: &M) -> Arc<BTreeSet<ParamId>> {
        struct Collect<'a>(&'a ParameterGroups, ParameterPath, BTreeSet<ParamId>);
        impl ModuleVisitor for Collect<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let name = self.1.name();
                let norm = name.rsplit_once('.').map_or("", |(norm, _)| norm);
                let is_frozen = |part: &str| self.0.is_frozen(&format!("{norm}.{part}"));
                if is_running_statistic(&name) && is_frozen("weight") && is_frozen("bias") {
                    self.2.insert(param.id);
                }
            }
            fn enter_module(&mut self, name: &str, container: &str) {
                self.1.enter(name, container);
            }
            fn exit_module(&mut self, _name: &str, container: &str) {
                self.1.exit(container);
            }
        }
        let mut collect = Collect(self, ParameterPath::default(), BTreeSet::new());
        model.visit(&mut collect);
        Arc::new(collect.2)
    }

    /// Every name that a pattern can be meant for: parameters and the modules that they are in.
    fn known_names(&self) -> Vec<String> {
        let modules =
            |name: &String| name.match_indices('.').map(|(end, _)| name[..end].to_owned()).collect::<Vec<_>>();
        let all: BTreeSet<String> = self.rules.keys().flat_map(modules).chain(self.rules.keys().cloned()).collect();
        all.into_iter().collect()
    }
}

/// Layers in the order of the model, counted from 0; what stands between the last block and the head counts to that block.
fn number_layers(places: &BTreeSet<LayerPlace>) -> BTreeMap<LayerPlace, usize> {
    let mut next = 0;
    let mut layers = BTreeMap::new();
    for &place in places {
        if place == LayerPlace::AfterBlocks {
            next = next.max(1) - 1;
        }
        layers.insert(place, next);
        next += 1;
    }
    layers
}

/// Why parameters cannot train as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// A pattern that names nothing.
    #[error("no parameter's name matches `{pattern}`")]
    NothingMatches {
        /// As it was written.
        pattern: String,
        /// Every name of a parameter or of a module, sorted.
        known: Vec<String>,
    },
    /// Patterns that leave nothing to train.
    #[error("all {parameters} parameters are frozen, so nothing is left to train")]
    EverythingFrozen {
        /// How many there are.
        parameters: usize,
    },
}

impl GroupError {
    /// A way out that can be typed.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NothingMatches { known, .. } => {
                let modules: Vec<String> =
                    known.iter().filter(|name| !name.contains('.')).map(|name| format!("`{name}`")).collect();
                Some(format!("the model has {}; `stem.*` freezes all of `stem`", modules.join(", ")))
            }
            Self::EverythingFrozen { .. } => Some("leave the head out of `model.freeze`".to_owned()),
        }
    }
}
