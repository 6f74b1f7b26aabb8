use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::module::{
    AutodiffModule, Content, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param, ParamId,
};
use burn::tensor::{Device, Tensor};

/// Whether `name` is that of a batch norm's running mean or variance: saved and averaged with the parameters, but not trained.
pub fn is_running_statistic(name: &str) -> bool {
    matches!(name.rsplit('.').next(), Some("running_mean" | "running_var"))
}

/// Whether `name` is that of PyTorch's count of batches in a batch norm. No layer here keeps it, as nothing depends on it: leave it out when a
/// checkpoint is assigned. PyTorch fills in 0 where a file has none.
pub fn is_batch_count(name: &str) -> bool {
    name.rsplit('.').next() == Some("num_batches_tracked")
}

/// A vector that training passes move by way of `&self`: off the tape, visited and mapped as a float parameter that needs no gradient.
///
/// A clone has a cell of its own that starts at the value of now: what moves one does not move the other. So an average, a
/// snapshot to go back to, or a copy that recomputes a forward pass never shares state with the model that trains. (Burn's
/// [`RunningState`](burn::module::RunningState) shares it, and also averages over threads.)
#[derive(Debug)]
pub struct RunningStatistic {
    id: ParamId,
    value: Mutex<Tensor<1>>,
}

impl RunningStatistic {
    /// A statistic that starts at `value`, `[C]`.
    pub fn new(value: Tensor<1>) -> Self {
        Self::with_id(ParamId::new(), value)
    }

    fn with_id(id: ParamId, value: Tensor<1>) -> Self {
        Self { id, value: Mutex::new(off_tape(value)) }
    }

    /// Who it is: the same in every clone.
    pub fn id(&self) -> ParamId {
        self.id
    }

    /// The value of now, `[C]`.
    pub fn value(&self) -> Tensor<1> {
        self.lock().clone()
    }

    /// `value = (1 - momentum) * value + momentum * observed`, PyTorch's momentum. Reads nothing from the device.
    ///
    /// # Shapes
    /// - `observed`: `[C]`; what the tape knows of it is left out
    pub fn move_towards(&self, observed: Tensor<1>, momentum: f64) {
        let mut value = self.lock();
        let moved = value.clone().mul_scalar(1.0 - momentum) + off_tape(observed).mul_scalar(momentum);
        *value = moved;
    }

    /// A panic elsewhere leaves a whole tensor in the cell: there is nothing half done to be afraid of.
    fn lock(&self) -> MutexGuard<'_, Tensor<1>> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn into_value(self) -> Tensor<1> {
        self.value.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// On the same device, without history.
fn off_tape(tensor: Tensor<1>) -> Tensor<1> {
    tensor.set_require_grad(false)
}

impl Clone for RunningStatistic {
    fn clone(&self) -> Self {
        Self::with_id(self.id, self.value())
    }
}

impl Module for RunningStatistic {
    fn collect_devices(&self, mut devices: Vec<Device>) -> Vec<Device> {
        let device = self.lock().device();
        if !devices.contains(&device) {
            devices.push(device);
        }
        devices
    }

    fn fork(self, device: &Device) -> Self {
        self.to_device(device)
    }

    fn to_device(self, device: &Device) -> Self {
        let id = self.id;
        Self::with_id(id, self.into_value().to_device(device))
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        visitor.visit_float(&Param::initialized(self.id, self.value()));
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        let id = self.id;
        let (id, value, _) = mapper.map_float(Param::initialized(id, self.into_value())).consume();
        Self::with_id(id, value)
    }
}

impl AutodiffModule for RunningStatistic {
    fn valid(&self) -> Self {
        Self::with_id(self.id, self.value().no_grad())
    }

    fn from_inner(module: Self) -> Self {
        let id = module.id;
        Self::with_id(id, Tensor::from_inner(module.into_value()))
    }
}

impl fmt::Display for RunningStatistic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunningStatistic(id={})", self.id)
    }
}

impl ModuleDisplayDefault for RunningStatistic {
    fn content(&self, content: Content) -> Option<Content> {
        content.add_formatted(&self.to_string()).optional()
    }
}

impl ModuleDisplay for RunningStatistic {}
