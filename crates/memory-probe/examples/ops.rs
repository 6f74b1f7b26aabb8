use burn::tensor::Device;
use convnext::*;
use memory_probe::*;
use trainer::*;
use vision_nn::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let config = match args[2].as_str() {
        "small" => ConvNextConfig { depths: [1, 1, 1, 1], widths: [16, 32, 64, 128], pointwise_mlp: false },
        name => find_variant(name).unwrap().config.clone(),
    };
    let size: usize = args[3].parse().unwrap();
    let options = TrainOptions {
        epochs: 1,
        effective_batch_size: 8,
        micro_batch_size: 8,
        adamw: AdamWOptions::default(),
        schedule: WarmupCosine { peak: 1e-3, minimum: 0., warmup_steps: 0, total_steps: 10 },
        label_smoothing: 0.1,
        clip_norm: Some(1.0),
        ema_decay: None,
        top_k: 3,
        seed: 0,
    };
    let mut request =
        StepRequest { image: [size, size, 3], num_classes: 10, options, accumulates: false, checkpointing: false };
    let build = |d: &Device| config.init(&ClassifierSpec::new(10, d));
    if args[1] == "events" { print_events(&request, args[4].parse().unwrap(), &build); return; }
    if args[1] == "ops" {
        print_recording(&request, 8, &build);
        return;
    }
    if args[1] == "cap" {
        for batch in std::env::var("BATCHES").map(|b| b.split(",").map(|x| x.parse().unwrap()).collect()).unwrap_or(vec![1usize,2,4,8,12,16,32]) {
            for ck in [false, true] {
                request.checkpointing = ck;
                let t = std::time::Instant::now();
                let r = captured_reserved(
                    &request,
                    batch,
                    &build,
                    AllocatorModel { max_page_bytes: 128 << 20, alignment_bytes: 256 },
                );
                let tt = t.elapsed();
                let trace = captured_trace(&request, batch, &build);
                let state: u64 =
                    trace.tensors.iter().filter(|t| t.born == memory_planner::Born::BeforeStep).map(|t| t.bytes).sum();
                let (mut live, mut peak) = (vec![0i64; trace.operations.len() + 1], 0i64);
                for t in &trace.tensors {
                    let b = match t.born {
                        memory_planner::Born::BeforeStep => 0,
                        memory_planner::Born::At(i) => i,
                    };
                    live[b] += t.bytes as i64;
                    if let Some(d) = t.dies {
                        live[d + 1] -= t.bytes as i64;
                    }
                }
                let mut sum = 0;
                for (i, l) in live.iter().enumerate() {
                    sum += l;
                    let w = trace.operations.get(i).map_or(0, |o| o.workspace_bytes as i64);
                    peak = peak.max(sum + w);
                }
                if args.len()>4 && args[4]==batch.to_string() { let mut sum=0i64; let mut best=(0,0i64); for (i,l) in live.iter().enumerate() { sum+=l; let w = trace.operations.get(i).map_or(0,|o| o.workspace_bytes as i64); if sum+w>best.1 {best=(i,sum+w);} }
            println!("peak at kernel {} {:?} of {}", best.0, trace.operations[best.0], trace.operations.len());
            let mut v: Vec<_> = trace.tensors.iter().filter(|t| { let b = match t.born { memory_planner::Born::BeforeStep => 0, memory_planner::Born::At(i)=>i }; b<=best.0 && t.dies.is_none_or(|d| d>=best.0) && !matches!(t.role, memory_planner::Role::Weight|memory_planner::Role::OptimizerState) }).collect(); v.sort_by_key(|t| std::cmp::Reverse(t.bytes));
            for t in v.iter().take(60) { println!("  {:?} {} {:?} {:?} born {:?} dies {:?}", t.role, t.bytes, t.shape, trace.layers[t.layer as usize], t.born, t.dies); }
            for i in best.0.saturating_sub(12)..(best.0+12).min(trace.operations.len()) { println!("  op {i} {:?} live {}", trace.operations[i], live[..=i].iter().sum::<i64>()); } }
        println!(
                    "{} {size} batch {batch} ck {ck}: captured reserved {r} ({tt:?}), live peak {peak}, state {state}, kernels {}",
                    args[2],
                    trace.operations.len()
                );
            }
        }
        return;
    }
    #[cfg(feature = "wgpu")]
    {
        let device = Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
        for batch in std::env::var("BATCHES").map(|b| b.split(",").map(|x| x.parse().unwrap()).collect()).unwrap_or(vec![1usize,2,4,8,12,16,32]) {
            for ck in [false, true] {
                request.checkpointing = ck;
                let t = std::time::Instant::now();
                let tuned = dry_run_reserved(&request, batch, &device, &build);
                let tt = t.elapsed();
                let t = std::time::Instant::now();
                let dry = dry_run_reserved(&request, batch, &device, &build);
                let td = t.elapsed();
                let t = std::time::Instant::now();
                let real = if args.len() > 4 { real_reserved(&request, batch, &device, &build) } else { 0 };
                println!(
                    "{} {size} batch {batch} ck {ck}: first {tuned} ({tt:?}) dry {dry} ({td:?}) real {real} ({:?})",
                    args[2],
                    t.elapsed()
                );
            }
        }
    }
    let _ = &mut request;
}
