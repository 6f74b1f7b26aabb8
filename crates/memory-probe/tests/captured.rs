//! The captured source on a small ConvNeXt: what arithmetic gives exactly, and what must be larger than what.

use burn::tensor::Device;
use convnext::{ConvNext, ConvNextConfig};
use memory_planner::{Born, FixedMemory, Liveness, Phase, PlanRequest, Role, Trace};
use memory_probe::{AllocatorModel, CapturedSource, StepRequest, capture_step, fixed_memory, saved_activations};
use swin::SwinConfig;
use trainer::{LossOptions, OptimizerOptions, SgdOptions, TrainOptions, WarmupCosine};
use vision_nn::{ClassifierSpec, parameter_shapes};

const CLASSES: usize = 10;
const MIB: u64 = 1 << 20;

fn config() -> ConvNextConfig {
    ConvNextConfig { depths: [1, 1, 1, 1], widths: [16, 32, 64, 128], pointwise_mlp: false, response_norm: false }
}

fn build(device: &Device) -> ConvNext {
    config().init(&ClassifierSpec::new(CLASSES, device))
}

fn request() -> StepRequest {
    StepRequest {
        image: [64, 64, 3],
        num_classes: CLASSES,
        options: TrainOptions {
            effective_batch_size: 8,
            micro_batch_size: 8,
            schedule: WarmupCosine { peak: 1e-3, minimum: 0.0, warmup_steps: 0, total_steps: 10 }.into(),
            loss: LossOptions { label_smoothing: 0.1, ..Default::default() },
            clip_norm: Some(1.0),
            ..TrainOptions::default()
        },
        accumulates: false,
        checkpointing: false,
        predicts: false,
    }
}

fn with_average() -> StepRequest {
    let mut request = request();
    request.options.ema_decay = Some(0.99);
    request
}

fn peak(trace: &Trace) -> u64 {
    Liveness::of(trace).unwrap().peak_bytes
}

#[test]
fn a_recorded_step_holds_together() {
    let requests = [request(), with_average(), StepRequest { accumulates: true, ..request() }];
    for request in &requests {
        for checkpointing in [false, true] {
            let request = StepRequest { checkpointing, ..request.clone() };
            let trace = capture_step(&request, 8, &build);
            trace.check().unwrap();
            let phases: Vec<Phase> = trace.operations.iter().map(|operation| operation.phase).collect();
            for phase in [Phase::Forward, Phase::Loss, Phase::Backward, Phase::Optimizer] {
                assert!(phases.contains(&phase), "{phase:?}");
            }
        }
    }
}

#[test]
fn what_is_there_before_the_step_is_what_arithmetic_says() {
    let weights = 4 * config().num_parameters(3, CLASSES) as u64;
    let without = fixed_memory(&capture_step(&request(), 8, &build));
    assert_eq!((without.weights, without.optimizer, without.ema, without.buffers), (weights, 2 * weights, 0, 0));
    let with = fixed_memory(&capture_step(&with_average(), 8, &build));
    assert_eq!((with.weights, with.optimizer, with.ema), (weights, 2 * weights, weights));
}

#[test]
fn a_prediction_has_weights_and_nothing_that_training_adds() {
    let weights = 4 * config().num_parameters(3, CLASSES) as u64;
    let predicts = StepRequest { predicts: true, ..request() };
    let found = fixed_memory(&capture_step(&predicts, 8, &build));
    assert_eq!(found, FixedMemory { weights, ..FixedMemory::default() });
}

/// The planner runs the trainer's own step, so what an optimizer keeps shows by itself.
#[test]
fn the_state_of_every_optimizer_is_what_arithmetic_says() {
    let mut sizes = Vec::new();
    for optimizer in [
        OptimizerOptions::AdamW(Default::default()),
        OptimizerOptions::Sgd(Default::default()),
        OptimizerOptions::Lamb(Default::default()),
        OptimizerOptions::Lion(Default::default()),
        OptimizerOptions::Adafactor(Default::default()),
        OptimizerOptions::Muon(Default::default()),
    ] {
        let options = TrainOptions { optimizer, ..request().options };
        let trace = capture_step(&StepRequest { options, ..request() }, 8, &build);
        trace.check().unwrap();
        let kept = parameter_shapes(&build(&Device::flex()));
        let elements: usize = kept.iter().map(|(_, shape)| optimizer.state_elements(shape)).sum();
        assert_eq!(fixed_memory(&trace).optimizer, 4 * elements as u64, "{optimizer:?}");
        sizes.push(elements as f64 / config().num_parameters(3, CLASSES) as f64);
    }
    let [adamw, sgd, lamb, lion, adafactor, muon] = sizes[..] else { panic!("six optimizers") };
    assert_eq!((adamw, sgd, lamb, lion), (2.0, 1.0, 2.0, 1.0));
    // 7x7 kernels keep 14 numbers of 49, and this model has little else.
    assert!(adafactor < 0.25 && (1.0..1.2).contains(&muon), "{adafactor} and {muon}");
}

#[test]
fn a_model_frozen_up_to_its_head_takes_gradients_state_and_activations_for_the_head_alone() {
    let of = |request: &StepRequest, role| {
        let trace = capture_step(request, 8, &build);
        trace.tensors.iter().filter(|tensor| tensor.role == role).map(|tensor| tensor.bytes).sum::<u64>()
    };
    let mut frozen = with_average();
    frozen.options.groups.freeze = vec!["stem".to_owned(), "stages".to_owned()];
    let head = 4 * (2 * 128 + CLASSES * 128 + CLASSES) as u64;
    assert_eq!(of(&frozen, Role::OptimizerState), 2 * head);
    let fixed = fixed_memory(&capture_step(&frozen, 8, &build));
    // Frozen weights are their own average, in the same memory.
    assert_eq!((fixed.optimizer, fixed.ema), (2 * head, head));
    assert!(of(&frozen, Role::Gradient) <= 2 * head);
    let (kept, whole) = (of(&frozen, Role::SavedActivation), of(&request(), Role::SavedActivation));
    assert!(kept < whole / 100, "{kept} of {whole} bytes of activations");
    let (kept, whole) = (peak(&capture_step(&frozen, 32, &build)), peak(&capture_step(&with_average(), 32, &build)));
    assert!(kept < whole / 2, "{kept} of {whole} bytes at the peak");
}

/// As on a card: the weights, what the optimizer keeps of them and their averages move in place, all at once.
#[test]
fn parameters_move_at_once_in_the_memory_that_they_have() {
    let sgd = |momentum| OptimizerOptions::Sgd(SgdOptions { momentum, ..Default::default() });
    let (adamw, request, with_average) = (OptimizerOptions::default(), request(), with_average());
    for (request, optimizer, pass, kept) in [
        (&request, adamw, "adamw", 2),
        (&with_average, adamw, "adamw", 2),
        (&request, sgd(0.9), "sgd", 1),
        (&with_average, sgd(0.9), "sgd", 1),
        (&with_average, sgd(0.0), "sgd", 0),
    ] {
        let options = TrainOptions { optimizer, ..request.options.clone() };
        let request = StepRequest { options, ..request.clone() };
        let trace = capture_step(&request, 8, &build);
        let moving = trace.operations.iter().filter(|operation| operation.phase == Phase::Optimizer);
        let kinds: Vec<&str> =
            moving.map(|operation| operation.kind.as_str()).filter(|kind| *kind != "create").collect();
        assert_eq!(kinds, [pass]);
        let later = trace.operations.iter().filter(|operation| operation.phase == Phase::Ema);
        assert!(later.map(|operation| operation.kind.as_str()).all(|kind| kind == "create"));
        let sums = trace.operations.iter().filter(|operation| operation.kind == "squares");
        assert_eq!(sums.count(), 1);
        let held = |role| trace.tensors.iter().filter(move |tensor| tensor.role == role);
        for role in [Role::Weight, Role::OptimizerState, Role::Ema] {
            assert!(held(role).all(|tensor| tensor.born == Born::BeforeStep), "{role:?}");
        }
        assert_eq!(held(Role::Ema).count() > 0, request.options.ema_decay.is_some());
        let weights = 4 * config().num_parameters(3, CLASSES) as u64;
        assert_eq!(fixed_memory(&trace).optimizer, kept * weights, "{optimizer:?}");
    }
}

#[test]
fn gradients_of_micro_batches_are_added_in_the_memory_of_the_first() {
    let trace = capture_step(&StepRequest { accumulates: true, ..request() }, 8, &build);
    assert_eq!(trace.operations.iter().filter(|operation| operation.kind == "blend").count(), 1);
}

#[test]
fn layers_are_named_by_their_parameters() {
    let trace = capture_step(&request(), 8, &build);
    let before = trace.tensors.iter().filter(|tensor| tensor.born == Born::BeforeStep && tensor.role == Role::Weight);
    // The optimizer works on flat tensors: the last stage's depthwise kernel is known by its size.
    let weights = before.filter(|tensor| tensor.bytes == 4 * 128 * 7 * 7);
    let layers: Vec<&str> = weights.map(|tensor| trace.layers[tensor.layer as usize].as_str()).collect();
    assert_eq!(layers, ["stages.3.blocks.0"]);
}

/// Moments, gradients and averages belong to the layer of their parameter, as the weights do.
#[test]
fn what_is_kept_for_a_parameter_lies_in_its_layer() {
    for optimizer in [OptimizerOptions::AdamW(Default::default()), OptimizerOptions::Lion(Default::default())] {
        let options = TrainOptions { optimizer, ..with_average().options };
        let trace = capture_step(&StepRequest { options, ..with_average() }, 8, &build);
        let of_layer = |role, layer: &str| {
            let of = |tensor: &&memory_planner::TracedTensor| {
                tensor.role == role && trace.layers[tensor.layer as usize] == layer && tensor.born == Born::BeforeStep
            };
            trace.tensors.iter().filter(of).map(|tensor| tensor.bytes).sum::<u64>()
        };
        let weights = of_layer(Role::Weight, "stages.3.blocks.0");
        assert!(weights > 4 * 8 * 128 * 128, "two projections of four times the width: {weights}");
        let moments = if matches!(optimizer, OptimizerOptions::AdamW(_)) { 2 } else { 1 };
        assert_eq!(of_layer(Role::OptimizerState, "stages.3.blocks.0"), moments * weights, "{optimizer:?}");
        assert_eq!(of_layer(Role::Ema, "stages.3.blocks.0"), weights);
        assert_eq!(of_layer(Role::OptimizerState, ""), 0);
    }
}

#[test]
fn activations_grow_with_the_batch_and_nothing_else_does() {
    let saved = |batch| {
        let trace = capture_step(&request(), batch, &build);
        let of =
            |role| trace.tensors.iter().filter(|tensor| tensor.role == role).map(|tensor| tensor.bytes).sum::<u64>();
        (of(Role::SavedActivation), of(Role::Weight) + of(Role::OptimizerState))
    };
    let ((activations, state), (double, same)) = (saved(8), saved(16));
    assert_eq!(state, same);
    // The loss keeps scalars, which do not double.
    assert!(double > 2 * activations - 4096 && double <= 2 * activations, "{activations} and {double}");
}

#[test]
fn a_sample_leaves_behind_what_arithmetic_says() {
    // Numbers of each stage's map, 16x16 positions at first, and 3x4x4 numbers of a patch at each of these.
    let maps: Vec<u64> = (0..4).map(|stage| (256 >> (2 * stage)) * (16 << stage)).collect();
    let stem = 256 * 48 + maps[0];
    // Into the depthwise convolution, the norm and the first projection one map, into GELU four, and one into the layer scale. What GELU gives to the
    // second projection is computed again.
    let blocks: u64 = maps.iter().map(|map| 8 * map).sum();
    // Into the norm and, as patches, into the projection.
    let downsamples: u64 = maps[..3].iter().map(|map| 2 * map).sum();
    // The pooled map into the norm and the classifier.
    let head = 2 * 128;
    let saved = saved_activations(&request(), &build);
    // The logits, into the loss, which is one operation and makes its probabilities again.
    assert_eq!(saved.bytes_per_sample, 4 * (stem + blocks + downsamples + head + CLASSES as u64));
    assert_eq!(saved.parts.iter().map(|part| part.bytes_per_sample).sum::<u64>(), saved.bytes_per_sample);
}

#[test]
fn a_frozen_convolution_or_scale_keeps_no_map() {
    let kept = |frozen: &str| {
        let mut request = request();
        request.options.groups.freeze = vec![frozen.to_owned()];
        saved_activations(&request, &build).bytes_per_sample
    };
    let maps: u64 = (0..4).map(|stage| (256 >> (2 * stage)) * (16 << stage)).sum();
    let whole = saved_activations(&request(), &build).bytes_per_sample;
    for frozen in ["*conv_dw.weight", "*gamma", "*fc1.weight"] {
        // What goes into the layer: one map a block.
        assert_eq!(whole - kept(frozen), 4 * maps, "{frozen}");
    }
}

#[test]
fn checkpointing_raises_no_peak_and_accumulation_and_averages_do() {
    let plain = peak(&capture_step(&request(), 32, &build));
    let checkpointed = peak(&capture_step(&StepRequest { checkpointing: true, ..request() }, 32, &build));
    // Burn computes elementwise operations of its own again, of which a block has none left.
    assert!(checkpointed <= plain, "{checkpointed} and {plain}");
    let weights = 4 * config().num_parameters(3, CLASSES) as u64;
    let summed = peak(&capture_step(&StepRequest { accumulates: true, ..request() }, 32, &build));
    // The sums of the first micro-batch are there when the second one peaks.
    assert!(summed >= plain + weights * 9 / 10, "{summed} and {plain}");
    let averaged = peak(&capture_step(&with_average(), 32, &build));
    assert!(averaged >= plain + weights, "{averaged} and {plain}");
}

#[test]
fn pages_are_never_less_than_what_lives_in_them() {
    let request = request();
    let source = CapturedSource::record(&request, build);
    let allocator = AllocatorModel::cuda(6 << 30);
    let mut last = 0;
    for batch in [4, 8, 16, 32, 64] {
        let reserved = source.reserved_bytes(batch, allocator).unwrap();
        assert!(reserved >= peak(&capture_step(&request, batch, &build)), "batch {batch}");
        assert!(reserved >= last, "batch {batch}: {reserved} after {last}");
        last = reserved;
    }
}

#[test]
fn a_scaled_recording_is_the_recording_at_that_batch() {
    // Batch sizes that no buffer of the model has by chance.
    let allocator = AllocatorModel::cuda(6 << 30);
    let source = CapturedSource::record(&request(), build);
    for batch in [19usize, 31, 47] {
        let trace = capture_step(&request(), batch, &build);
        let live = peak(&trace);
        let reserved = source.reserved_bytes(batch, allocator).unwrap();
        // Pages of 8 and 32 MiB come on top of what lives: at most one page of either kind that is not full.
        assert!((live..live + 48 * MIB).contains(&reserved), "batch {batch}: {reserved} for {live}");
    }
}

#[test]
fn a_batch_whose_buffers_no_allocation_can_hold_fits_nothing() {
    let allocator = AllocatorModel { max_page_bytes: 64 * MIB, ..AllocatorModel::cuda(6 << 30) };
    let source = CapturedSource::record(&request(), build);
    assert!(source.reserved_bytes(16, allocator).is_some());
    // 4096 images x 16 x 16 x 64 hidden channels x 4 bytes: 256 MiB in one buffer.
    assert_eq!(source.reserved_bytes(4096, allocator), None);
}

#[test]
fn a_captured_footprint_never_plans_beyond_its_budget() {
    let budget_bytes = 512 * MIB;
    let source = CapturedSource::record(&request(), build);
    let allocator = AllocatorModel::cuda(6 << 30);
    let plan = PlanRequest { effective_batch: Some(4096), ..PlanRequest::default() };
    let footprint = source.footprint(allocator, budget_bytes, &plan).unwrap();
    let fits = |batch| footprint.accumulating().peak_bytes(batch) <= budget_bytes;
    let largest = (1..4096).take_while(|batch| fits(*batch)).last().unwrap();
    assert!(source.reserved_bytes(largest, allocator).unwrap() <= budget_bytes);
    assert!(largest > 32, "{largest}");
}

/// The gradient of a cut weight is a part written over zeros: nobody else has them, so that no copy is made.
#[test]
fn a_part_is_written_in_place() {
    let swin = |device: &Device| {
        let (depths, num_heads) = ([1, 1, 1, 1], [1, 2, 2, 4]);
        SwinConfig { image_size: [64, 64], window_size: 4, embed_dim: 8, depths, num_heads }
            .init(&ClassifierSpec::new(CLASSES, device))
    };
    let trace = capture_step(&request(), 8, &swin);
    let is_part = |operation: usize| trace.operations[operation].kind == "assign";
    assert!((0..trace.operations.len()).any(is_part));
    let copies = trace.tensors.iter().filter(|tensor| matches!(tensor.born, Born::At(operation) if is_part(operation)));
    assert_eq!(copies.count(), 0);
}

#[test]
fn the_sums_of_a_depthwise_gradient_stop_growing_with_the_batch() {
    let largest = |batch| {
        let trace = capture_step(&request(), batch, &build);
        let kernels = trace.operations.iter().filter(|operation| operation.kind == "depthwise parameter gradients");
        let workspaces: Vec<u64> = kernels.map(|kernel| kernel.workspace_bytes).collect();
        assert_eq!(workspaces.len(), 4, "one a block");
        workspaces.into_iter().max()
    };
    // Two images of 16 rows in the first stage: for each row and channel 49 taps and a bias, in f32.
    assert_eq!(largest(2), Some(32 * 16 * 50 * 4));
    // The bound that the kernels keep: k + 1 / k MiB.
    assert!(largest(256) <= Some((7 << 20) + (1 << 20) / 7 + 1));
    assert_eq!(largest(256), largest(512));
}

/// On the way back through an MLP, the product that gives the gradient of GELU's output computes GELU again and its gradient, in its own kernel: of the two
/// maps of the hidden width that come of it one is written over the rows, and nothing else makes any. Tuning may compute the product alone, which then lies
/// beside them.
#[test]
fn the_gradient_of_a_gelu_is_computed_with_the_product_behind_it() {
    const BATCH: usize = 8;
    let trace = capture_step(&request(), BATCH, &build);
    // In the last stage maps are smaller than weights: there the recording has them apart, which takes more.
    for (side, width) in [(16, 16), (8, 32), (4, 64)] {
        let shape = [BATCH * side * side, 4 * width];
        let makers =
            trace.tensors.iter().filter(|tensor| tensor.shape == shape).filter_map(|tensor| match tensor.born {
                Born::At(operation) => Some(&trace.operations[operation]),
                Born::BeforeStep => None,
            });
        let backward: Vec<_> = makers.filter(|operation| operation.phase == Phase::Backward).collect();
        assert!(backward.iter().all(|operation| operation.kind == "matmul"), "{backward:?}");
        // The gradient of a downsampling layer may be as large; beside that of the GELU lies what was computed alone.
        let bytes = 4 * shape.iter().product::<usize>() as u64;
        let of_gelu = backward.iter().filter(|operation| operation.workspace_bytes == bytes);
        assert_eq!(of_gelu.count(), 1, "{shape:?}: {backward:?}");
    }
}
