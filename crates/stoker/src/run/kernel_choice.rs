//! The faster of two ways: where an operation that both stoker and Burn have loses to Burn's own on the card at hand, Burn's runs.
//!
//! What a model asks for is read off a recorded step. What was not measured on this card before is measured once, in a process of its own, and kept beside
//! the card's kernels: a run that is resumed finds the same choices. On the CPU nothing is measured.

mod file;
mod measuring;

use device::{CudaDevice, SelectedDevice, probe_cuda};
use memory_planner::{Choice, Precision, Rung};
use vision_nn::choice::{Asked, Operation, Site, Way, asked_by, choice_of, set_choice};

use crate::config::Kernels;
use crate::run::compute::Compute;
use crate::run::kernel_cache::kernel_file;
use crate::run::subject::Subject;
use crate::ui::{self, Progress};

use file::{ChoiceFile, Kept};
use measuring::measure_elsewhere;

pub(crate) use measuring::measure_here;

/// The file's name, beside the kernels'.
const FILE: &str = "stoker-kernels.json";

/// Shapes at which Burn's own run that a plan names.
const MOST_NAMED: usize = 3;

/// Puts the faster way of each operation of the step into this process's table, before anything is planned for it. `rungs` are the ways to compute the step
/// that may be taken. None where there is nothing to choose: on the CPU, and where the configuration says so.
pub(crate) fn choose_kernels(subject: &Subject<'_>, compute: &Compute, rungs: &[Rung]) -> Option<Choice> {
    let SelectedDevice::Cuda(card) = &compute.selected else { return None };
    if subject.resolved.config.kernels == Kernels::Ours {
        return None;
    }
    let asked = asked_of(subject, rungs);
    let mut file = ChoiceFile::read(kernel_file().0.with_file_name(FILE), identity_of(card));
    let is_unknown = |asked: &&Asked| choice_of(&asked.site).is_none() && file.kept(&asked.site).is_none();
    let unknown: Vec<Asked> = asked.iter().filter(is_unknown).cloned().collect();
    if !unknown.is_empty() {
        measure(&mut file, &unknown, compute);
    }
    let with_kept = |Asked { site, .. }| {
        let kept = file.kept(&site);
        (site, kept)
    };
    let sites: Vec<(Site, Option<Kept>)> = asked.into_iter().map(with_kept).collect();
    for (site, kept) in &sites {
        begin_with(site, *kept);
    }
    outcome(&sites)
}

/// What this process has begun with it goes on with. Where nothing could be measured ours run, and nobody tries again before the next process.
fn begin_with(site: &Site, kept: Option<Kept>) {
    if choice_of(site).is_none() {
        set_choice(site, Some(kept.map_or(Way::Ours, Kept::way)));
    }
}

/// What the step asks for in each format that it may be computed in; how it is checkpointed makes no difference.
fn asked_of(subject: &Subject<'_>, rungs: &[Rung]) -> Vec<Asked> {
    let mut precisions: Vec<Precision> = rungs.iter().map(|rung| rung.precision).collect();
    precisions.dedup();
    asked_by(|| {
        for precision in precisions {
            subject.recorded(Rung { precision, ..Rung::default() }, 1, false);
        }
    })
}

/// What measurements hold for: another driver may compile other kernels, and another version has others.
fn identity_of(card: &CudaDevice) -> String {
    let driver = probe_cuda().map_or_else(
        |_| "unknown driver".to_owned(),
        |driver| format!("driver for CUDA {}.{}", driver.version.0, driver.version.1),
    );
    format!("{}, {driver}, stoker {}", card.name, env!("CARGO_PKG_VERSION"))
}

/// Measures, and keeps what comes of it. Where that fails it is said, and stoker's own run.
fn measure(file: &mut ChoiceFile, unknown: &[Asked], compute: &Compute) {
    let progress = Progress::start(format!("measuring kernels at {} shapes", unknown.len()), "shapes", 0);
    let measured = measure_elsewhere(compute.selected.request().to_string(), unknown);
    progress.finish("done");
    let kept = match measured {
        Ok(measured) => {
            file.keep(measured).map_err(|error| format!("kernels are measured anew in the next run: {error}"))
        }
        Err(error) => Err(format!("kernels could not be measured, stoker's own run: {error}")),
    };
    if let Err(reason) = kept {
        ui::note(format_args!("note: {reason}"));
    }
}

/// The choices in a plan. None where a step has nothing to choose.
fn outcome(sites: &[(Site, Option<Kept>)]) -> Option<Choice> {
    let burns: Vec<_> = sites.iter().filter(|(site, _)| choice_of(site) == Some(Way::Burns)).collect();
    let mut reasons: Vec<String> = burns.iter().take(MOST_NAMED).map(|(site, kept)| told(site, *kept)).collect();
    if let Some(more) = burns.len().checked_sub(MOST_NAMED).filter(|more| *more > 0) {
        reasons.push(format!("{more} more in `{FILE}`"));
    }
    let unmeasured = sites.iter().filter(|(_, kept)| kept.is_none()).count();
    if unmeasured > 0 {
        reasons.push(format!("{unmeasured} could not be measured"));
    }
    if reasons.is_empty() {
        reasons.push("measured on this card: Burn's own are faster nowhere".to_owned());
    }
    let (ours, all) = (sites.len() - burns.len(), sites.len());
    let value = format!("ours in {ours} of {all} shapes");
    (all > 0).then(|| Choice { name: "kernels".to_owned(), value, reason: reasons.join("; ") })
}

/// "Burn's own for depthwise 7x7 over 14x14x768 in bf16, in 12 % less time".
fn told(site: &Site, kept: Option<Kept>) -> String {
    let what = match (site.operation, site.shape.as_slice()) {
        (Operation::Depthwise, [height, width, channels, kernel, ..]) => {
            format!("depthwise {kernel}x{kernel} over {height}x{width}x{channels}")
        }
        (Operation::WindowAttention, [height, width, ..]) => format!("window attention over {height}x{width}"),
        (Operation::BatchNorm, [channels]) => format!("batch norm of {channels} channels"),
        (_, shape) => {
            let axes: Vec<String> = shape.iter().map(ToString::to_string).collect();
            format!("layer norm over {}", axes.join("x"))
        }
    };
    let less = |kept: Kept| format!(", in {:.0} % less time", 100.0 * (1.0 - kept.ratio));
    let gain = kept.map_or_else(String::new, less);
    format!("Burn's own for {what} in {}{gain}", site.storage.name())
}

#[cfg(test)]
mod tests {
    use vision_nn::choice::with_choice;

    use super::*;
    use crate::run::subject::bare_config;

    fn site(text: &str) -> Site {
        text.parse().unwrap()
    }

    #[test]
    fn a_step_asks_for_its_norms_and_convolutions_in_every_format_that_it_may_be_computed_in() {
        let resolved = bare_config("convnext_atto", 32).unwrap();
        let architecture = resolved.architecture().unwrap();
        let subject = Subject::without_data(&resolved, &architecture, 10);
        let rung = |precision| Rung { precision, ..Rung::default() };
        let asked = asked_of(&subject, &[rung(Precision::Fp32), rung(Precision::Fp16)]);
        // The first of four stages: eight by eight cells of 40 channels.
        for storage in ["f32", "f16"] {
            for text in [format!("depthwise {storage} 8x8x40x7x1x3x3x8x8"), format!("layer_norm {storage} 8x8x40")] {
                let found = asked.iter().find(|asked| asked.site == site(&text));
                assert_eq!(found.map(|asked| asked.first), Some(1), "{text} of one image");
            }
        }
    }

    #[test]
    fn on_the_cpu_there_is_nothing_to_choose() {
        let resolved = bare_config("convnext_atto", 32).unwrap();
        let architecture = resolved.architecture().unwrap();
        let subject = Subject::without_data(&resolved, &architecture, 10);
        let compute = Compute::select(device::DeviceRequest::Cpu).unwrap();
        assert_eq!(choose_kernels(&subject, &compute, &[Rung::default()]), None);
    }

    #[test]
    fn what_could_not_be_measured_is_not_tried_again_in_this_process() {
        let [failed, kept] = [site("batch_norm f32 12345"), site("batch_norm f32 12346")];
        begin_with(&failed, None);
        begin_with(&kept, Some(Kept { burns: true, ratio: 0.5 }));
        assert_eq!([&failed, &kept].map(choice_of), [Some(Way::Ours), Some(Way::Burns)]);
        begin_with(&failed, Some(Kept { burns: true, ratio: 0.5 }));
        assert_eq!(choice_of(&failed), Some(Way::Ours), "what is begun with stays");
        for site in [failed, kept] {
            set_choice(&site, None);
        }
    }

    #[test]
    fn a_plan_tells_where_burns_own_run_and_how_much_that_saves() {
        let [conv, norm] = [site("depthwise bf16 14x14x768x7x1x3x3x14x14"), site("layer_norm bf16 14x14x768")];
        let kept = |ratio| Some(Kept { burns: false, ratio });
        let sites = [(conv.clone(), kept(0.88)), (norm, kept(1.5))];
        let all_ours = outcome(&sites).unwrap();
        assert_eq!(all_ours.value, "ours in 2 of 2 shapes");
        assert_eq!(all_ours.reason, "measured on this card: Burn's own are faster nowhere");
        let told = with_choice(&conv, Way::Burns, || outcome(&sites)).unwrap();
        assert_eq!(told.value, "ours in 1 of 2 shapes");
        assert_eq!(told.reason, "Burn's own for depthwise 7x7 over 14x14x768 in bf16, in 12 % less time");
        let failed = outcome(&[(conv, None)]).unwrap();
        assert_eq!(failed.reason, "1 could not be measured");
        assert_eq!(outcome(&[]), None);
    }
}
