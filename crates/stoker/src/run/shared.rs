//! Cards that share the effective batches of a run.

use device::{DeviceRequest, NCCL_LIBRARY, SelectedDevice, has_nccl, probe_cuda};
use memory_planner::{Budget, BudgetRequest, Checkpointing, PlanRequest, Rung};
use memory_probe::PoolLayout;
use trainer::{Exchange, TrainStep};
use vision_nn::Classifier;

use crate::cli::{ExchangeRequest, Gpus, TrainArguments, typed};
use crate::error::CommandError;
use crate::run::compute::Compute;
use crate::run::dry_process::Job;
use crate::run::memory::{cut_memory, dry_run_elsewhere};
use crate::run::subject::Subject;
use crate::ui;

/// What the command line asks for.
#[derive(Debug, Clone)]
pub(crate) struct Sharing {
    gpus: Gpus,
    exchange: Option<ExchangeRequest>,
}

impl Sharing {
    /// None without `--gpus`.
    pub(crate) fn of(arguments: &TrainArguments) -> Option<Self> {
        Some(Self { gpus: arguments.gpus.clone()?, exchange: arguments.exchange })
    }

    /// As they are typed again: ` --gpus 0,1`.
    pub(crate) fn flags(&self) -> String {
        let exchange = self.exchange.map_or(String::new(), |exchange| format!(" --exchange {}", typed(exchange)));
        format!(" --gpus {}{exchange}", self.gpus)
    }

    /// The error about a card, with a way out that is one where cards are named: their flag comes before any `device`.
    fn explain(error: CommandError) -> CommandError {
        const WITHOUT: &str = "leave `--gpus` out";
        let instead = error.hint.as_ref().and_then(|hint| match hint.find("set `device: ")? {
            0 => Some(format!("name cards that are there, or {WITHOUT}")),
            other_device => Some(format!("{}{WITHOUT}", &hint[..other_device])),
        });
        error.with_hint(instead)
    }

    /// The numbers of the cards.
    fn numbers(&self) -> Result<Vec<usize>, CommandError> {
        match &self.gpus {
            Gpus::These(numbers) => Ok(numbers.clone()),
            Gpus::All => {
                let driver =
                    probe_cuda().map_err(|error| CommandError::from_request(&error).with_hint(error.hint()))?;
                Ok(driver.devices.iter().map(|card| card.index).collect())
            }
        }
    }

    /// How numbers get from card to card.
    fn exchange(&self) -> Result<Exchange, CommandError> {
        match self.exchange {
            Some(ExchangeRequest::Host) => Ok(Exchange::ThroughHost),
            None if !has_nccl() => Ok(Exchange::ThroughHost),
            Some(ExchangeRequest::Nccl) if !has_nccl() => {
                let error =
                    CommandError::wrong_request(format!("`--exchange nccl`: `{NCCL_LIBRARY}` cannot be loaded"));
                Err(error.with_hint(format!(
                    "install NCCL; where there is only `{NCCL_LIBRARY}.2`, link `{NCCL_LIBRARY}` to it; or leave `--exchange` out"
                )))
            }
            Some(ExchangeRequest::Nccl) | None => Ok(Exchange::AllReduce),
        }
    }
}

/// The device that is asked for, and the cards that share its work.
pub(crate) fn select(device: DeviceRequest, sharing: Option<&Sharing>) -> Result<(Compute, Others), CommandError> {
    let selected = || -> Result<(Compute, Others), CommandError> {
        let compute = Compute::select(device)?;
        let others = Others::select(sharing, &compute)?;
        Ok((compute, others))
    };
    selected().map_err(|error| if sharing.is_some() { Sharing::explain(error) } else { error })
}

/// The cards beside the first; none where one computes alone.
#[derive(Default)]
pub(crate) struct Others {
    cards: Vec<Compute>,
    exchange: Exchange,
}

impl Others {
    /// Selects them.
    fn select(sharing: Option<&Sharing>, first: &Compute) -> Result<Self, CommandError> {
        let Some(sharing) = sharing else { return Ok(Self::default()) };
        let is_first = |number: &usize| first.selected.request() == DeviceRequest::Cuda(*number);
        let numbers = sharing.numbers()?.into_iter().filter(|number| !is_first(number));
        let cards = numbers.map(|number| Compute::select(DeviceRequest::Cuda(number)));
        Ok(Self { cards: cards.collect::<Result<_, _>>()?, exchange: sharing.exchange()? })
    }

    /// All cards together.
    pub(crate) fn count(&self) -> usize {
        1 + self.cards.len()
    }

    /// What a micro-batch may take: it must fit on each card, so what the one with the least has.
    pub(crate) fn smallest_budget(&self, first: &Compute, request: &BudgetRequest) -> Result<Budget, CommandError> {
        let mut smallest = first.budget(request)?;
        for card in &self.cards {
            let budget = card.budget(request)?;
            if budget.budget_bytes < smallest.budget_bytes {
                smallest = budget;
            }
        }
        Ok(smallest)
    }

    /// The card of the lowest compute capability, whose formats all others have.
    pub(crate) fn least_capable<'a>(&'a self, first: &'a Compute) -> &'a SelectedDevice {
        let capability = |selected: &SelectedDevice| match selected {
            SelectedDevice::Cpu { .. } => (0, 0),
            SelectedDevice::Cuda(card) => card.compute_capability,
        };
        let all = std::iter::once(first).chain(&self.cards).map(|compute| &compute.selected);
        all.min_by_key(|selected| capability(selected)).unwrap_or(&first.selected)
    }

    /// Cuts their memory as the first card's is, and has each run the planned step dry in a process of its own: what it tunes there it need not tune
    /// beside weights and optimizer.
    pub(crate) fn rehearse(&self, subject: &Subject<'_>, rung: Rung, pools: PoolLayout, bounds: (u64, &PlanRequest)) {
        for card in &self.cards {
            cut_memory(pools, card);
            let job = Job::of(subject, &card.selected, rung, pools, bounds);
            dry_run_elsewhere(&job, "training steps", "its kernels are tuned in the first steps of the run");
        }
    }

    /// Tells how the work is shared, and warns where a card has none.
    pub(crate) fn tell(&self, micro_batches: usize) {
        let cards = self.count();
        if cards > 1 {
            let names: Vec<String> = self.cards.iter().map(|card| card.selected.describe()).collect();
            let way = match self.exchange {
                Exchange::Direct | Exchange::AllReduce => "NCCL",
                Exchange::ThroughHost => "the host's memory",
            };
            let names = names.join(" and ");
            ui::note(format_args!("shared with {names}: {micro_batches} micro-batches a step, exchange through {way}"));
        }
        if micro_batches < cards {
            ui::warn(format_args!(
                "{} of {cards} cards have no work: share the run among fewer, or lower `train.micro_batch_size`",
                cards - micro_batches
            ));
        }
    }

    /// Lets them take part in the step.
    pub(crate) fn join<M: Classifier>(&self, step: TrainStep<M>, checkpointing: Checkpointing) -> TrainStep<M> {
        let devices = self.cards.iter().map(|card| card.tracked(checkpointing)).collect();
        step.with_devices(devices, self.exchange)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_other_device_is_proposed_beside_a_flag_that_comes_first() {
        let told = |hint: &str| Sharing::explain(CommandError::failed("no card").with_hint(hint.to_owned())).hint;
        for (hint, expected) in [
            ("install the NVIDIA driver, or set `device: cpu`", "install the NVIDIA driver, or leave `--gpus` out"),
            ("set `device: cuda:0`, or `device: auto`", "name cards that are there, or leave `--gpus` out"),
            ("install NCCL", "install NCCL"),
        ] {
            assert_eq!(told(hint).as_deref(), Some(expected));
        }
        assert_eq!(Sharing::explain(CommandError::failed("no card")).hint, None);
    }
}
